"""Sphinx: `python -m sphinx -W --keep-going docs build/site` makes the site."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import xharmonize

sys.path.insert(0, str(Path(__file__).parent))  # for pictures.py

project = "xharmonize"
author = "The xharmonize developers"
copyright = f"2026, {author}"
release = version = xharmonize.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "pictures",
]
root_doc = "index"
exclude_patterns = ["make_cli_reference.py"]

html_theme = "pydata_sphinx_theme"
html_title = "xharmonize"
html_theme_options = {"show_prev_next": False, "navbar_align": "left"}
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("gallery", "changelog", "contributing")}  # none beside
html_static_path = ["static"]
html_css_files = ["gallery.css"]

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # types stand in the docstrings
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "autolink"

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600

# Pages on real observations run where these are; elsewhere they say so, and show a picture.
_real = Path(os.environ.get("XHARMONIZE_DATA", Path(__file__).parents[2] / "shared" / "data"))
if _real.is_dir():
    os.environ["XHARMONIZE_DATA"] = str(_real.resolve())
    xharmonize_unexecuted = []
else:
    xharmonize_unexecuted = ["tutorials/fields-of-a-season", "tutorials/train-your-own-model"]
    nb_execution_excludepatterns = [f"{page}.md" for page in xharmonize_unexecuted]
