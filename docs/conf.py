"""Sphinx configuration: Markdown pages, warnings are errors (`make docs`)."""

project = "tritape"
author = "the tritape developers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
myst_heading_anchors = 2
