"""The encoding of a table that is a text file: UTF-8, unless the study file names another; never guessed."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from search.errors import DataError

UTF_8 = "utf-8-sig"  # with a byte order mark or without
# The marks that a file may begin with, and the encodings that take them. That of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BLOCK = 1 << 20
_ADVICE = 'name its encoding in [data], such as encoding = "latin-1" or "cp1252" (Excel), or save it as UTF-8'


def check(path: Path, encoding: str | None) -> None:
    """Raise DataError for a file whose first bytes show that it is in another encoding; OSError if it can't be read."""
    with path.open("rb") as file:
        start = file.read(4096)
    mark = next((name for given, name in _MARKS.items() if start.startswith(given)), "")
    if mark and mark != (encoding or "utf-8"):
        how = "remove encoding" if mark == "utf-8" else f'set encoding = "{mark}" in [data]'
        raise DataError(
            f"{path}: begins with the byte order mark of {mark.upper()}, so it is not {encoding or 'UTF-8'}; {how}",
            key="data.encoding",
        )
    if b"\0" in start and not (encoding or "").startswith(("utf-16", "utf-32")):
        raise DataError(
            f"{path}: holds bytes of zero, as no text of {encoding or 'UTF-8'} does; if it is UTF-16 without a byte order "
            'mark, set encoding = "utf-16-le" (or "utf-16-be") in [data]',
            key="data.encoding",
        )


def warnings(path: Path, encoding: str | None) -> Iterator[str]:
    """Yield a warning if a file that is said to be in another encoding has characters beyond ASCII and is UTF-8."""
    name = codecs.lookup(encoding or UTF_8).name
    if name.startswith("utf"):
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    has_others = False
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            has_others = has_others or not block.isascii()
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return
    if has_others and not decoder.getstate()[0]:
        misread = "ü".encode().decode(name, "replace")
        yield (
            f'{path}: is UTF-8, and encoding = "{encoding}" reads its letters beyond ASCII as others (ü as {misread}); '
            "remove encoding"
        )


def refused(path: Path, error: UnicodeError, encoding: str | None) -> DataError:
    """Return the error for a file that is not in its encoding."""
    what = str(error)
    if isinstance(error, UnicodeDecodeError):
        what = f"byte {error.object[error.start : error.start + 1].hex()} ({error.reason})"
    advice = _ADVICE if encoding is None else "name another encoding, or save it as UTF-8"
    return DataError(f"{path}: is not {encoding or 'UTF-8'}: {what}; {advice}", key="data.encoding")
