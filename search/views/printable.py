"""Text that is safe to print: names and messages of a study may hold anything, and a terminal obeys what it is sent."""

from __future__ import annotations

import unicodedata

# These turn the direction of the text around them: "gpj.exe" would read "exe.jpg".
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, halves of characters (bytes of a file's name that are no UTF-8), and separators of lines.
_UNSAFE = frozenset(("Cc", "Cs", "Zl", "Zp"))


def printable(text: str) -> str:
    """Return `text` with escape codes and the like written out (`\\x1b`); line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(char) if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return char not in "\n\t" and (unicodedata.category(char) in _UNSAFE or char in _DIRECTIONS)


def _written_out(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
