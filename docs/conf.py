"""Sphinx configuration: Markdown pages, the reference made from the code, warnings are errors (`make docs`)."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent

project = "tritape"
author = "the tritape developers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "tritape"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
highlight_language = "text"
smartquotes = False  # `--option` stays as it is


def setup(_app: object) -> None:
    """Write the pages of units and commands before Sphinx looks for pages."""
    sys.path[:0] = [str(DOCS), str(DOCS.parent)]
    import reference_pages

    reference_pages.write(DOCS / "reference")
