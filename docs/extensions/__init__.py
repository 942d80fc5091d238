"""What the site adds to Sphinx: docstrings as pages, formulas as MathML, the benchmarks' tables."""
