"""The documentation: `sphinx-build -W -b html docs build/docs`; it uses no network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import dao
import dao.learner  # settles a torchvision that does not load, before transformers is imported

project = "dao"
version = release = dao.__version__
copyright = "the dao maintainers"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docs.extensions.mathml",
    "docs.extensions.outside",
    "docs.extensions.reference_pages",
]
exclude_patterns = ["extensions", "**.ipynb_checkpoints"]
default_role = "code"  # single backticks of docstrings

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"dao {release}"
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
