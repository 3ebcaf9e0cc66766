"""Words of texts as Keras's TextVectorization splits them, and columns of long texts in a table as features."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from search.data.cells import is_blank

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.table import Column

MOST_WORDS = 256
# A word that one row has can't be learnt.
_FEWEST_ROWS_OF_A_WORD = 2
_PUNCTUATION = b"!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'"


@dataclass(frozen=True)
class Words:
    """A column of texts; each of its most frequent words is a feature, 1 in a row whose text has the word."""

    name: str
    words: tuple[str, ...]


def words_of(text: str) -> list[bytes]:
    """Return the words of a text as Keras's TextVectorization splits it: ASCII in small letters, without punctuation."""
    return text.encode().lower().translate(None, _PUNCTUATION).split()


def frequent_words(column: Column, rows: Array) -> Words:
    """Return the most frequent words of a column, by the number of rows that have them."""
    import numpy as np

    counts: Counter[bytes] = Counter()
    texts = column.texts or ()
    used = np.bincount(column.values[rows], minlength=len(texts))
    for text, count in zip(texts, used.tolist(), strict=True):
        if count and not is_blank(text):
            for word in set(words_of(text)):
                counts[word] += count
    frequent = sorted(
        (pair for pair in counts.items() if pair[1] >= _FEWEST_ROWS_OF_A_WORD), key=lambda pair: (-pair[1], pair[0])
    )
    words = sorted(word.decode() for word, _ in frequent[:MOST_WORDS])
    return Words(column.name, tuple(words))


def put_words(words: Words, column: Column, rows: Array, features: Array) -> None:
    """Write the features of a column of texts: 1 for each of its words."""
    import numpy as np

    texts = column.texts or ()
    places = {word.encode(): place for place, word in enumerate(words.words)}
    used, codes = np.unique(column.values[rows], return_inverse=True)
    found = [list({places[word] for word in words_of(texts[index]) if word in places}) for index in used.tolist()]
    lengths = np.array([len(index) for index in found])
    flat = np.fromiter(chain.from_iterable(found), np.intp)
    starts = np.cumsum(lengths) - lengths
    counts = lengths[codes]
    row = np.repeat(np.arange(len(rows)), counts)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    features[row, flat[np.repeat(starts[codes], counts) + offset]] = 1
