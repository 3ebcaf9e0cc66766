"""Arrays of texts as token ids or counts of words, as TextVectorization computes them; adapted on the training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.data.parts import is_number
from search.data.table import Texts
from search.data.words import words_of
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.spec.settings import Text

# Without `output_sequence_length`, a row has as many tokens as the longest training text, but at most these.
_MOST_TOKENS = 512
_LARGEST = 8 * 2**30
_SHOWN = 40
# Above this share of unknown words in the validation rows, texts may be something else.
_MANY_UNKNOWN = 0.5


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of the training texts, and how texts become numbers by them.

    Attributes:
        words: the most frequent one first, without padding and the unknown word.
        output_mode: "int", "multi_hot", "count" or "tf_idf", as in TextVectorization.
        length: the tokens of a row of the mode "int"; 0 for other modes.
        idf: of each word, float32, for the mode "tf_idf"; empty for other modes.
    """

    words: tuple[str, ...]
    output_mode: str
    length: int
    idf: Array

    @property
    def size(self) -> int:
        """The number of tokens: the words, the unknown word and, for ids, padding."""
        return len(self.words) + (2 if self.output_mode == "int" else 1)

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return self.length or self.size

    def described(self, name: str) -> tuple[dict[str, Any], ...]:
        """Return name, kind, number of features and remarks, as the columns of a table have them."""
        words = f"{len(self.words)} word{'s' if len(self.words) != 1 else ''}"
        how = f"{self.length} token ids a row, of {words}" if self.length else f"{self.output_mode} of {words}"
        return ({"name": name or "x", "kind": "text", "features": self.width, "how": how},)


def texts_of(value: Any, name: Callable[[int], str], key: str, *, may_be_numbers: bool = False) -> Texts | None:
    """Return an array, list or column of texts, bytes of UTF-8 too; None for any other value.

    `name` names a row for errors. Raises DataError for several texts a row, missing ones, and numbers written as texts,
    unless they are another split of training rows that are texts (`may_be_numbers`).
    """
    import numpy as np

    array = _array_of(value)
    if array is None:
        return None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{name(0)}: {key} has {' x '.join(map(str, array.shape[1:]))} texts a row; give one text a row, (rows,), or "
            "a table of pandas with a column for each"
        )
    texts = np.empty(len(array), dtype=object)
    for row, item in enumerate(array.tolist()):
        texts[row] = _text(item, row, name)
    if not may_be_numbers and all(is_number(text) for text in texts if text.strip()):
        row = next((row for row, text in enumerate(texts) if text.strip()), 0)
        what = (
            f"{texts[row][:_SHOWN]!r} and all other texts are numbers" if texts[row].strip() else "all texts are empty"
        )
        raise DataError(f"{name(row)}: {what}; give {key} as numbers: np.asarray(x, float)")
    return Texts(texts)


def _array_of(value: Any) -> Array | None:
    """Return a value as an array if it holds texts: by its dtype or, of Python objects, if most are texts."""
    import numpy as np

    if not _may_be_texts(value):
        return None
    # Of a list, numpy would write a number among texts as a text.
    array = np.array(value, dtype=object) if isinstance(value, list | tuple) else np.asarray(value)
    if array.ndim == 0 or not array.size or array.dtype.kind not in "USTO":
        return None
    if array.dtype.kind != "O":
        return array.astype(object)
    return array if _are_mostly_texts(array.flat) else None


def _may_be_texts(value: Any) -> bool:
    import numpy as np

    if isinstance(value, list | tuple):
        return _are_mostly_texts(value)
    if isinstance(value, np.ma.MaskedArray):
        return False
    module = type(value).__module__.partition(".")[0]
    if module == "tensorflow":
        return bool(getattr(value, "dtype", None) == "string")
    return module == "numpy" or (module == "pandas" and type(value).__name__ != "DataFrame")


def _are_mostly_texts(items: Iterable[Any]) -> bool:
    """Return whether there are more texts than other items that are not missing."""
    texts = others = 0
    for item in items:
        if isinstance(item, str | bytes):
            texts += 1
        elif not _is_missing(item):
            others += 1
    return texts > others


def _is_missing(item: Any) -> bool:
    return item is None or type(item).__name__ in ("NAType", "NaTType") or (isinstance(item, float) and item != item)  # noqa: PLR0124


def _text(item: Any, row: int, name: Callable[[int], str]) -> str:
    text = _decoded(item, row, name)
    if "\0" in text:
        # TextVectorization ends some of such words there.
        raise DataError(f"{name(row)}: {text[:_SHOWN]!r} has a NUL character; remove it: text.replace('\\0', '')")
    return text


def _decoded(item: Any, row: int, name: Callable[[int], str]) -> str:
    if isinstance(item, str):
        try:
            item.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{name(row)}: {item[:_SHOWN]!r} has half a character (a surrogate); mend the text"
            ) from None
        return item
    if isinstance(item, bytes):
        try:
            return item.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"{name(row)}: {item[:_SHOWN]!r} is no UTF-8; give texts: item.decode('latin-1'), say"
            ) from None
    if _is_missing(item):
        raise DataError(
            f"{name(row)}: {item} is a missing value among texts; give '' for a missing text, or remove the row"
        )
    raise DataError(
        f"{name(row)}: {str(item)[:_SHOWN]!r} ({type(item).__name__}) is no text, and others are; make them alike"
    )


def adapt(texts: Texts, rows: Array, text: Text, name: str) -> Vocabulary:
    """Adapt a vocabulary to the training rows. Raises DataError if they have no word.

    Words are in the order of `TextVectorization.adapt`: the most frequent one first, of equally frequent ones the last in
    the alphabet.
    """
    import numpy as np

    counts: Counter[bytes] = Counter()
    rows_with: Counter[bytes] = Counter()
    longest = 0
    for value in texts.values[rows]:
        words = words_of(value)
        longest = max(longest, len(words))
        counts.update(words)
        rows_with.update(set(words))
    if not counts:
        raise DataError(f"{name}: no training row has a word; leave the texts out")
    is_int = text.output_mode == "int"
    most = text.max_tokens - (2 if is_int else 1)
    ordered = sorted(counts, key=lambda word: (counts[word], word), reverse=True)[:most]
    has_idf = text.output_mode == "tf_idf"
    idf = [np.log(1 + len(rows) / (1 + rows_with[word])) for word in ordered] if has_idf else []
    length = (text.output_sequence_length or min(longest, _MOST_TOKENS)) if is_int else 0
    return Vocabulary(tuple(word.decode() for word in ordered), text.output_mode, length, np.array(idf, np.float32))


def encode(vocabulary: Vocabulary, texts: Texts, rows: Array, name: str) -> Array:
    """Return token ids, int32 (rows, length): 0 behind the text, 1 for unknown words; or float32 (rows, size), unknown first.

    Raises DataError if the rows take too much memory.
    """
    import numpy as np

    is_int = vocabulary.output_mode == "int"
    width = vocabulary.length if is_int else vocabulary.size
    if (size := len(rows) * width * 4) > _LARGEST:
        raise DataError(
            f"{name}: {len(rows)} texts of {width} numbers each take {size / 2**30:.0f} GiB; use fewer: text = {{ "
            + ("output_sequence_length = 200 }" if is_int else "max_tokens = 1000 }"),
            key="data.text",
        )
    first = 2 if is_int else 1
    places = {word.encode(): place for place, word in enumerate(vocabulary.words, first)}
    encoded = np.zeros((len(rows), width), np.int32 if is_int else np.float32)
    for row, value in enumerate(texts.values[rows]):
        indices = [places.get(word, first - 1) for word in words_of(value)]
        if is_int:
            encoded[row, : len(indices)] = indices[:width]
        elif vocabulary.output_mode == "multi_hot":
            encoded[row, indices] = 1
        else:
            encoded[row] = np.bincount(indices, minlength=width) if indices else 0
    if vocabulary.output_mode == "tf_idf":
        # The weight of the unknown word is the mean, as in Keras.
        encoded *= np.concatenate([[vocabulary.idf.mean()], vocabulary.idf]).astype(np.float32)
    return encoded


def cut_warnings(vocabulary: Vocabulary, texts: Texts, rows: Array, name: str) -> Iterable[str]:
    """Yield a warning if training texts have more words than a row has tokens."""
    if not vocabulary.length:
        return
    count = sum(len(words_of(value)) > vocabulary.length for value in texts.values[rows])
    if count:
        yield (
            f"{name}: {count} of {len(rows)} training texts have more than {vocabulary.length} words and are cut there; "
            "text = { output_sequence_length = ... } sets the length"
        )


def unknown_warnings(vocabulary: Vocabulary, texts: Texts, rows: Array, name: str) -> Iterable[str]:
    """Yield a warning if most words of the validation rows are unknown to models."""
    known = {word.encode() for word in vocabulary.words}
    words = [word for value in texts.values[rows] for word in words_of(value)]
    unknown = sum(word not in known for word in words)
    if unknown > _MANY_UNKNOWN * len(words):
        yield (
            f"{name}: {unknown} of the {len(words)} words of the validation rows are unknown: too rare among the training "
            "rows for max_tokens, or not there at all; dates, numbers and identifiers belong into a table of pandas"
        )
