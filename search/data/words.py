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


def frequent_words(column: Column, rows: Array, most: int = MOST_WORDS) -> Words:
    """Return the `most` frequent words of a column, by the number of rows that have them."""
    frequent = sorted(_counts(column, rows).items(), key=lambda pair: (-pair[1], pair[0]))
    return Words(column.name, tuple(sorted(word.decode() for word, _ in frequent[:most])))


def cut_warning(words: Words, column: Column, rows: Array, name: str) -> str:
    """Return a warning on words that do not become features; "" if all do."""
    if (count := len(_counts(column, rows))) == len(words.words):
        return ""
    return (
        f"{name}: column {column.name!r} has {count} words that two or more training rows have, of which the "
        f"{len(words.words)} most frequent are features; text = {{ max_tokens = ... }} sets how many, unless another input "
        "is an array of texts"
    )


def _counts(column: Column, rows: Array) -> dict[bytes, int]:
    """Return how many rows have each word that enough of them have."""
    import numpy as np

    counts: Counter[bytes] = Counter()
    texts = column.texts or ()
    used = np.bincount(column.values[rows], minlength=len(texts))
    for text, count in zip(texts, used.tolist(), strict=True):
        if count and not is_blank(text):
            for word in set(words_of(text)):
                counts[word] += count
    return {word: count for word, count in counts.items() if count >= _FEWEST_ROWS_OF_A_WORD}


def put_words(words: Words, column: Column, rows: Array, features: Array) -> None:
    """Write the features of a column of texts: 1 for each of its words."""
    import numpy as np

    texts = column.texts or ()
    places = {word.encode(): place for place, word in enumerate(words.words)}
    used, codes = np.unique(column.values[rows], return_inverse=True)
    positions = [list({places[word] for word in words_of(texts[index]) if word in places}) for index in used.tolist()]
    lengths = np.array([len(index) for index in positions])
    flat = np.fromiter(chain.from_iterable(positions), np.intp)
    starts = np.cumsum(lengths) - lengths
    counts = lengths[codes]
    row = np.repeat(np.arange(len(rows)), counts)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    features[row, flat[np.repeat(starts[codes], counts) + offset]] = 1
