"""The documentation site: ``python -m sphinx -W docs build/docs`` builds it, with no network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

project = "minitorch_flux"
copyright = "its authors, MIT licence"
extensions = [
    "myst_parser",
    "sphinx.ext.viewcode",
    "extensions.reference",
    "extensions.formulas",
    "extensions.results",
    "extensions.examples",
]
exclude_patterns = ["extensions"]
root_doc = "index"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

python_display_short_literal_types = True
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "minitorch_flux"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5f8b", "color-brand-content": "#1f5f8b"},
    "dark_css_variables": {"color-brand-primary": "#7db9e8", "color-brand-content": "#7db9e8"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
