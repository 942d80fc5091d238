"""The benchmark suite: ``python -m benchmarks``. Every time is a ratio to a peer that did the same work in the same run."""
