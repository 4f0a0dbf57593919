"""Text from outside as a part of Markdown: it is shown and marks nothing up."""

import html

from manifests.foundation.messages import printable, shortened


def as_text(value: object) -> str:
    """A value in a cell of a table or in a sentence: what a set or a recipe says can be no markup.

    Example: as_text("<b>a|b") == "&lt;b&gt;a\\\\|b".
    """
    text = html.escape(printable(shortened(str(value))), quote=False)
    for mark in "\\`*_~[]|":
        text = text.replace(mark, f"\\{mark}")
    return text
