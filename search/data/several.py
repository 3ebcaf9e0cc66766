"""Rows of several inputs or outputs, and weights of rows: each array is checked by itself, all are split alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from search.data.parts import Parts, validate
from search.data.table import Table, Texts
from search.data.tabular import refuse_series
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.row_streams import Stream
    from search.spec.settings import DataSection, Text

Form = Literal["one", "dict", "tuple"]
Tree = Any
"""One array, or a dictionary or tuple of arrays, as Keras takes them."""


# The role of the weights of rows; of one of several outputs: "weights NAME".
WEIGHTS = "weights"


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a source of several inputs or outputs holds; a source of one of each has only "" of both.

    Attributes:
        inputs: name -> its rows, beside the targets of the first output. The name of a single array is "", those of a tuple
            are "0", "1", ...
        outputs: name -> its targets, beside the rows of the first input. All parts have the same roles, weights among them.
        x_form, y_form: the form in which a model gets them.
        stream: the training rows, if they are read as they are needed; then the train split is only a sample of them.
    """

    name: str
    inputs: dict[str, Parts]
    outputs: dict[str, Parts]
    x_form: Form = "one"
    y_form: Form = "one"
    stream: Stream | None = None

    @classmethod
    def of(cls, parts: Parts | Bundle) -> Bundle:
        """Return the bundle of a source that may hold a single input and output."""
        return parts if isinstance(parts, Bundle) else cls(parts.name, {"": parts}, {"": parts})

    def each(self, change: Callable[[Parts], Parts]) -> Bundle:
        """Return the bundle with every input and output changed."""
        inputs = {name: change(parts) for name, parts in self.inputs.items()}
        is_one = self.x_form == self.y_form == "one"
        return replace(
            self,
            inputs=inputs,
            outputs=inputs if is_one else {name: change(parts) for name, parts in self.outputs.items()},
        )

    def validated(self) -> Bundle:
        """Return the bundle with valid arrays; DataError for bad types, shapes, lengths, numbers or weights."""
        bundle = self.each(validate)
        for output, splits in bundle.weights.items():
            for split, weights in splits.items():
                _check_weights(weights, f"{self.name}: the weights{f' of {output!r}' if output else ''} in {split}")
        return bundle

    def check(self, section: DataSection) -> None:
        """Refuse settings that are for a single array of features, or for rows in memory."""
        if self.stream is not None:
            self._check_stream(section)
        sources = [parts.splits["train"].encodable for parts in self.inputs.values()]
        if section.text is not None and not any(isinstance(source, Texts) for source in sources):
            self._check_text_of_columns(section.text, sources)
        has_table = any(isinstance(source, Table) for source in sources)
        if (
            section.scale not in ("auto", "none")
            and any(isinstance(source, Texts) for source in sources)
            and not has_table
        ):
            raise DataError(
                f'{self.name}: scale = "{section.scale}" is for numbers, and x is texts; remove scale', key="data.scale"
            )
        if section.window is not None and (source := next((each for each in sources if each is not None), None)):
            refuse_series(source, self.name)
        if self.x_form == "one":
            return
        if section.scale not in ("auto", "none") and not has_table:
            raise DataError(
                f'{self.name}: scale = "{section.scale}" is for one array of features; with several inputs scale in the '
                "model (keras.layers.Normalization), or in the data function",
                key="data.scale",
            )
        if section.window is not None:
            raise DataError(
                f"{self.name}: window is for one array of features; with several inputs cut the windows in the data function",
                key="data.window",
            )

    def _check_text_of_columns(self, text: Text, sources: Iterable[Any]) -> None:
        tables = [source for source in sources if isinstance(source, Table)]
        if not any(column.kind == "text" for table in tables for column in table.columns):
            raise DataError(
                f"{self.name}: text is for arrays of texts and for columns of long texts, and there are none; remove text",
                key="data.text",
            )
        if text.output_mode in ("count", "tf_idf") or text.output_sequence_length is not None:
            raise DataError(
                f"{self.name}: of columns of texts, a feature says whether a row has a word; only max_tokens can be set: "
                "remove the other keys of text, or return the texts as an array",
                key="data.text",
            )

    def _check_stream(self, section: DataSection) -> None:
        given = {
            "scale": section.scale not in ("auto", "none"),
            "limit": section.limit is not None,
            "window": section.window is not None,
        }
        for key, is_set in given.items():
            if is_set:
                raise DataError(
                    f"{self.name}: {key} is for rows in memory, and these are read as they are needed; do so in the data "
                    f"function, and remove {key}",
                    key=f"data.{key}",
                )

    @property
    def warnings(self) -> list[str]:
        """The remarks on all inputs and outputs."""
        return [text for parts in (*self.inputs.values(), *self.outputs.values()) for text in parts.warnings]

    @property
    def weights(self) -> dict[str, dict[str, Array]]:
        """The weights of rows: name of an output, or "" for all -> split -> weights (rows,)."""
        splits = next(iter(self.inputs.values())).splits
        named = [role for role in splits["train"].roles if role.startswith(WEIGHTS)]
        return {
            role.removeprefix(WEIGHTS).strip(): {split: part.roles[role] for split, part in splits.items()}
            for role in named
        }


def form_of(value: Any, *, is_several: bool) -> Form:
    """Return the form of what a source gives for x or y."""
    return "dict" if isinstance(value, Mapping) else "tuple" if is_several else "one"


def named(value: Any, form: Form) -> dict[str, Any]:
    """Return the arrays of a value by name."""
    if form == "one":
        return {"": value}
    return {str(name): item for name, item in (value.items() if form == "dict" else enumerate(value))}


def packed(arrays: Mapping[str, Any], form: Form) -> Tree:
    """Return arrays by name in the form in which a model gets them."""
    if form == "one":
        return arrays[""]
    return dict(arrays) if form == "dict" else tuple(arrays.values())


def label(letter: str, name: str, form: Form) -> str:
    """Return how an array is written in code: x, x['image'] or x[0]."""
    return letter if form == "one" else f"{letter}[{name!r}]" if form == "dict" else f"{letter}[{name}]"


def same_names(given: Mapping[str, Mapping[str, Any]], name: str, letter: str) -> None:
    """Refuse splits of different inputs or outputs: `given` is split -> name -> array."""
    train = list(given["train"])
    for split, arrays in given.items():
        if set(arrays) != set(train):
            raise DataError(
                f"{name}: {letter} has {_list(train)} in training and {_list(arrays)} in {split}; give the same in "
                "every split"
            )
    if not train:
        raise DataError(f"{name}: {letter} holds no array; give at least one")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def kept(x: Array, where: str) -> Array:
    """Return one of several inputs in the dtype that models get: its own, but reals as float32 and long integers as int32.

    Integers beyond int32 stay int64. DataError for integers beyond int64.
    """
    import numpy as np

    if x.dtype.kind == "f":
        return np.ascontiguousarray(x, np.float32)
    if x.dtype.kind in "iu" and x.dtype.itemsize >= 4:
        low, high = int(x.min()), int(x.max())
        if high > np.iinfo(np.int64).max:
            raise DataError(
                f"{where}: {high} is beyond int64, the widest integers that models take; number ids 0, 1, 2, ..."
            )
        is_short = np.iinfo(np.int32).min <= low and high <= np.iinfo(np.int32).max
        return np.ascontiguousarray(x, np.int32 if is_short else np.int64)
    return np.ascontiguousarray(x)


def _check_weights(weights: Array, what: str) -> None:
    import numpy as np

    if weights.dtype.kind not in "biuf":
        raise DataError(f"{what} are of type {weights.dtype}; give numbers")
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{what}, row {row} (counted from 0): {weights[row]}; weights are finite and at least 0")
    if not weights.any():
        raise DataError(f"{what} are all 0; nothing would be learnt from them")
