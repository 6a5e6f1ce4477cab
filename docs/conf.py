"""How Sphinx builds these pages: ``python -m nox -s docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import gallery

import lossbackend

project = "lossbackend"
version = release = lossbackend.__version__
author = copyright = "the authors of lossbackend"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
# Headings are linked to from other pages.
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "lossbackend"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sourcelink = False
# What a page says is in the source; a date would make every build another one.
html_last_updated_fmt = None


def setup(app):
    """The pages of the losses are written, and their curves drawn, before anything is read."""
    app.connect("builder-inited", lambda app: gallery.write(Path(app.srcdir) / "losses"))
