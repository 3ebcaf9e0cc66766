"""Text that is safe to print: a study's names and messages may hold escape codes, and a terminal executes those."""

from __future__ import annotations

import html
import unicodedata

# These change the direction of the text around them: "gpj.exe" would read "exe.jpg".
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, surrogates (bytes of a file name that are not UTF-8), line separators, paragraph separators.
_UNSAFE = frozenset(("Cc", "Cs", "Zl", "Zp"))


def printable(text: str) -> str:
    """Return `text` with escape codes and the like written out (`\\x1b`); line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(char) if _is_unsafe(char) else char for char in text)


def label(text: object) -> str:
    """Return what a figure of Plotly shows as `text`: Plotly reads its labels as HTML."""
    return html.escape(printable(str(text)), quote=False)


def _is_unsafe(char: str) -> bool:
    return char not in "\n\t" and (unicodedata.category(char) in _UNSAFE or char in _DIRECTIONS)


def _written_out(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
