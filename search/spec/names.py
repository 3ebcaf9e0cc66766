"""Names of studies."""

from __future__ import annotations

import unicodedata

# Files are named after the study, with a suffix, and a file's name has at most 255 bytes.
_NAME_BYTES = 200


def plain_name(name: str) -> str:
    """Return a study's name in Unicode NFC, so that each accented letter has one form."""
    return unicodedata.normalize("NFC", name)


def checked_name(name: str) -> str:
    """Return the plain form of a name for a study; ValueError if it can be none."""
    name = plain_name(name)
    if not _is_name(name):
        raise ValueError(
            "must start with a letter or digit and hold letters, digits, spaces and . _ + - only "
            f"({_NAME_BYTES} bytes at most), for it also names files"
        )
    return name


def _is_name(name: str) -> bool:
    # Letters of any script with their combining marks, and decimal digits; no controls, separators or surrogates.
    codes = [unicodedata.category(character) for character in name]
    if (
        not codes
        or not (codes[0].startswith("L") or codes[0] == "Nd")
        or len(name.encode("utf-8", "replace")) > _NAME_BYTES
    ):
        return False
    return all(
        code[0] in "LM" or code == "Nd" or character in "._ +-" for code, character in zip(codes, name, strict=True)
    )
