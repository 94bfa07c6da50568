"""Sphinx settings. Pages are MyST Markdown; a warning is an error, so a broken link cannot be published."""

import tomllib
from pathlib import Path

import upload_core

_project = tomllib.loads(Path(__file__).parent.parent.joinpath("pyproject.toml").read_text("utf-8"))["project"]

project = _project["name"]
author = copyright = "the upload-core maintainers"
version = release = upload_core.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# ```mermaid is what GitHub draws too; so one page serves both.
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"{project} {version}"
