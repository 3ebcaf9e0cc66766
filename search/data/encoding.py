"""Inputs that are encoded: tables as features, texts as token ids or counts of words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from search.data import exact, table_encoding, texts
from search.data.table import Table, Texts
from search.data.texts import Vocabulary
from search.data.words import MOST_WORDS, cut_warning
from search.spec.settings import Text

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.table_encoding import Encoding
    from search.spec.settings import DataSection


def adapt(source: Table | Texts, rows: Array, section: DataSection, scale: str, name: str) -> Encoding | Vocabulary:
    """Adapt an encoding to the training rows; `scale` is for the numbers and dates of a table."""
    if isinstance(source, Table):
        most_words = section.text.max_tokens if section.text else MOST_WORDS
        return table_encoding.adapt(source, rows, scale, name, most_words)
    return texts.adapt(source, rows, section.text or Text(), name)


def encode(encoding: Encoding | Vocabulary, source: Any, rows: Array, name: str) -> Array:
    """Return rows of a source as models get them, (rows, features)."""
    if isinstance(encoding, Vocabulary):
        return texts.encode(encoding, source, rows, name)
    return table_encoding.encode(encoding, source, rows)


def warnings(encoding: Encoding | Vocabulary, source: Any, rows: Array | None, scale: str, name: str) -> Iterable[str]:
    """Yield warnings on numbers of a table that lose digits, and on words or training texts (`rows`) that are cut."""
    if isinstance(encoding, Vocabulary):
        if rows is not None:
            yield from texts.cut_warnings(encoding, source, rows, name)
        return
    yield from exact.table_warnings(source, scale, name)
    columns = {column.name: column for column in source.columns}
    if rows is None:
        return
    for words in encoding.texts:
        if warning := cut_warning(words, columns[words.name], rows, name):
            yield warning
