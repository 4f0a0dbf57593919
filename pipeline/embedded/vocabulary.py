"""Words that a model with a small vocabulary knows, and what to say of others.

A model folder may hold `words.txt`, a word a line: the words that its pictures can show. Other
words are read as bytes and mean nothing to the model.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

WORDS_FILE = "words.txt"
_MAX_NAMED = 10


def unknown_words(captions: Iterable[str], words: frozenset[str]) -> dict[str, list[str]]:
    """Words of captions outside the vocabulary, in order, each with the nearest ones in it."""
    found: dict[str, list[str]] = {}
    for caption in captions:
        for word in re.findall(r"[^\s,.;:!?]+", caption.lower()):
            if word not in words and word not in found:
                found[word] = get_close_matches(word, sorted(words), n=2)
    return found


def warning(folder: Path, captions: Iterable[str]) -> str | None:
    """One line about the words that the model in a folder does not know; None if it knows all."""
    path = folder / WORDS_FILE
    if not path.is_file():
        return None
    words = frozenset(path.read_text("utf-8").split())
    unknown = unknown_words(captions, words)
    return _say(unknown) if unknown else None


def _say(unknown: Mapping[str, list[str]]) -> str:
    named = [
        f"{word!r} (nearest: {', '.join(near)})" if near else repr(word)
        for word, near in list(unknown.items())[:_MAX_NAMED]
    ]
    more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
    return (
        f"the model does not know {', '.join(named)}{more}: it draws captions as if they were not "
        f"there; the words that it knows are in {WORDS_FILE} of its folder"
    )
