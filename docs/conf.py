"""The documentation as a site: the files that are read in the repository, and no others.

`make docs` builds it; a broken link is an error.
"""

from importlib import metadata

from sphinx.application import Sphinx

project = "synth"
release = metadata.version("synth-rep")
extensions = ["myst_parser"]
myst_heading_anchors = 3
suppress_warnings = ["toc.not_included"]  # Licences are reached by links.
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/**.md",
    "manifests/SPEC.md",
    "pipeline/embedded/*.md",
    "pipeline/embedded/drawings/*.md",
]
html_theme = "furo"
html_title = "synth"

MENU = """
```{toctree}
:hidden:
:caption: Use

docs/generate
docs/cluster
docs/costs
docs/sets
docs/publish
docs/train
docs/evaluate
docs/troubles
```

```{toctree}
:hidden:
:caption: Know

docs/format
manifests/SPEC
docs/families
docs/evidence
docs/speed
pipeline/embedded/MODEL_CARD
pipeline/embedded/GENERATOR_CARD
```

```{toctree}
:hidden:
:caption: Change

docs/extend
ARCHITECTURE
CONTRIBUTING
CHANGELOG
```

```{toctree}
:hidden:
:caption: Decisions
:glob:

docs/adr/*
```
"""


def add_menu(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the menu to the first page, where a reader of the repository would see it as code."""
    if page == root_doc:
        source[0] += MENU


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_menu)
