"""The encodings of tables and texts as layers of Keras, so that an exported model takes rows as the source has them.

The whole model takes a dict, name of a column or input -> its rows, or an array of texts. Texts can enter a computation of
TensorFlow only, so each column of texts goes through a lookup layer first; the rest is one inner model, named AFTER_LOOKUPS,
of numbers alone. On JAX, lookups run eagerly and the inner model compiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras.src.utils import module_utils, naming

from search.data.dates import Order
from search.data.several import Form, packed
from search.data.splits import Scaling
from search.data.table_encoding import Categories, Dates, Encoding
from search.data.texts import Vocabulary

AFTER_LOOKUPS = "after_lookups"
# The input of a model that takes an array of texts alone.
TEXT = "text"
# Keras's Normalization replaces a spread below its epsilon; the square of a very large one is not finite in float32.
_SPREADS = (1e-6, 1e18)
# A date as written has fewer characters.
_DATE_LENGTH = 40
_NUMBERED = re.compile(r"(.+)_(\d{1,2})")
_PLACES = {Order.YMD: (0, 1, 2), Order.DMY: (2, 1, 0), Order.MDY: (2, 0, 1)}

Given = Encoding | Vocabulary | tuple[tuple[int, ...], str]
"""An input of a study: what encodes it, or the (shape of a row, dtype) of one that enters as it is."""


def has_texts(encoding: Encoding | Vocabulary) -> bool:
    """Return whether an input is texts, or a table that has columns of texts, whose layers need TensorFlow."""
    if isinstance(encoding, Vocabulary):
        return True
    return any(column.are_texts for column in encoding.categories) or bool(encoding.dates or encoding.texts)


def find_tensorflow() -> bool:
    """Return whether TensorFlow is installed; let Keras use it, although a worker on JAX leaves it out."""
    if not module_utils.tensorflow._available:
        module_utils.tensorflow._available = None
    return bool(module_utils.tensorflow.available)


def in_front(inputs: Mapping[str, Given], form: Form, model: Callable[[Any], Any], window: int = 0) -> keras.Model:
    """Return a model of raw rows: the encodings of tables and texts in front of a model of features.

    It takes an array of a single input of texts, else a dict: the columns of tables and the other inputs.

    Args:
        inputs: of the model, in its order; "" is a single one.
        form: in which the model takes several inputs.
        window: rows of a table in a row of the study; 0 without windows.
    """
    lookups = _lookups_of(inputs)
    # One model's layers have different names; those of a table with columns a/b and a_b, say.
    names = _input_names(
        [name for item, given in inputs.items() for name in _names_of(item, given)],
        {*(layer.name for layer in lookups.values()), AFTER_LOOKUPS, getattr(model, "name", "")},
    )
    raw = {name: tensor for item, given in inputs.items() for name, tensor in _raw(item, given, lookups, names, window)}
    looked_up = {name: _looked_up(lookups.get(name), tensor, window) for name, tensor in raw.items()}
    numbers = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=names[name]) for name, tensor in looked_up.items()
    }
    features = packed({name: _features_of(name, given, numbers, window) for name, given in inputs.items()}, form)
    is_text = isinstance(inputs.get(""), Vocabulary)
    after = keras.Model(numbers[TEXT] if is_text else numbers, model(features), name=AFTER_LOOKUPS)
    if not lookups:
        return after
    return keras.Model(raw[TEXT], after(looked_up[TEXT])) if is_text else keras.Model(raw, after(looked_up))


def _lookups_of(inputs: Mapping[str, Given]) -> dict[str, keras.layers.Layer]:
    """Return the lookup layer of each column of texts and of each input of texts."""
    entered = [name for item, given in inputs.items() for name in _names_of(item, given)]
    names = lookup_names(entered)
    lookups: dict[str, keras.layers.Layer] = {}
    for item, given in inputs.items():
        if isinstance(given, Encoding):
            lookups |= _lookups(given, names)
        elif isinstance(given, Vocabulary):
            lookups[item or TEXT] = _vectorization(given, names[item or TEXT])
    return lookups


def _raw(
    item: str, given: Given, lookups: Mapping[str, Any], names: Mapping[str, str], window: int
) -> Iterator[tuple[str, Any]]:
    """Yield the inputs of the whole model for one of the study's: a column each of a table."""
    for name in _names_of(item, given):
        # Not (1,): TextVectorization takes texts without another axis.
        shape: tuple[int, ...] = (window,) if window else ()
        dtype = "string" if name in lookups else "float32"
        if isinstance(given, tuple):
            shape, dtype = given
        yield name, keras.Input(shape, dtype=dtype, name=names[name])


def _looked_up(lookup: keras.layers.Layer | None, cells: Any, window: int) -> Any:
    """Return what the inner model gets of a column: its numbers, or those of its texts."""
    if lookup is None:
        return cells
    if window and isinstance(lookup, layers.TextVectorization):
        # It takes texts in rows of one only, and states the shape of its result without the axis of the window.
        return ops.reshape(lookup(layers.Reshape((window, 1))(cells)), (-1, window, _DATE_LENGTH))
    return lookup(cells)


def _names_of(name: str, given: Given) -> tuple[str, ...]:
    """Return the names under which an input enters: the columns of a table, else its own."""
    return tuple(given.columns) if isinstance(given, Encoding) else (name or TEXT,)


def _features_of(name: str, given: Given, numbers: Mapping[str, Any], window: int) -> Any:
    """Return an input as the study's model takes it."""
    if isinstance(given, Encoding):
        if not window:
            return _features(given, numbers)
        # Encode the rows of all windows, one after the other.
        rows = {column: ops.reshape(numbers[column], (-1, *numbers[column].shape[2:])) for column in given.columns}
        return ops.reshape(_features(given, rows), (-1, window, given.width))
    tensor = numbers[name or TEXT]
    if isinstance(given, tuple):
        return tensor
    return ops.cast(tensor, "int32" if given.length else "float32")


def _vectorization(vocabulary: Vocabulary, name: str) -> keras.layers.Layer:
    options: dict[str, Any] = {"output_sequence_length": vocabulary.length} if vocabulary.length else {}
    if len(vocabulary.idf):
        options["idf_weights"] = vocabulary.idf.tolist()
    return layers.TextVectorization(
        output_mode=vocabulary.output_mode, vocabulary=list(vocabulary.words), name=name, **options
    )


def staged(model: keras.Model, rows: Any) -> tuple[keras.Model, Any]:
    """Return what can predict and evaluate on this backend: the model and its rows; on JAX the part after the lookups."""
    if isinstance(rows, tuple):
        return model, rows
    by_name = rows if isinstance(rows, dict) else {TEXT: rows}
    texts = [name for name, values in by_name.items() if values.dtype.kind == "O"]
    if not texts:
        return model, rows
    if keras.backend.backend() == "tensorflow":
        return model, {name: _tensor(values) for name, values in rows.items()} if isinstance(rows, dict) else rows
    after = model.get_layer(AFTER_LOOKUPS)
    names = lookup_names(by_name)
    coded = {
        name: _coded(model.get_layer(names[name]), values) if name in texts else values
        for name, values in by_name.items()
    }
    if model.compiled and not after.compiled:
        after.compile_from_config(model.get_compile_config())
    return after, coded if isinstance(rows, dict) else coded[TEXT]


def _tensor(values: Any) -> Any:
    """Return windows of texts as a tensor of TensorFlow: Keras takes no array of objects of two axes."""
    if values.dtype.kind != "O" or values.ndim < 2:
        return values
    import tensorflow as tf

    return tf.constant(values)


def _coded(lookup: keras.layers.Layer, values: Any) -> Any:
    has_windows = values.ndim > 1 and isinstance(lookup, layers.TextVectorization)
    return np.asarray(lookup(values[..., None] if has_windows else values))


def lookup_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the names of the lookup layers of columns, those of texts and all others.

    TensorFlow takes only these characters. If two columns differ only in others, the later one has its position in its name.
    """
    names: dict[str, str] = {}
    for position, column in enumerate(columns):
        name = "lookup_" + re.sub(r"[^A-Za-z0-9_.-]", "_", column)
        names[column] = f"{name}_{position}" if name in names.values() else name
    return names


def _input_names(columns: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Return the names of the inputs of columns: their own, unless a layer or another input has it."""
    names: dict[str, str] = {}
    for position, column in enumerate(columns):
        name = column.replace("/", "_")  # the only character that Keras refuses
        while name in taken:
            name = f"{name}_{position}"
        names[column] = name
        taken = {*taken, name}
        # Keras names the operations of ops.sum "sum", "sum_1", ...: keep it from the names of columns.
        naming.uniquify(name)
        if numbered := _NUMBERED.fullmatch(name):
            for _ in range(int(numbered[2]) + 1):
                naming.uniquify(numbered[1])
    return names


def _lookups(encoding: Encoding, names: Mapping[str, str]) -> dict[str, keras.layers.Layer]:
    """Return the layer of each column of texts: a category -> its number, a date -> its characters, a text -> its words.

    `names`: column -> the name of its layer.
    """
    lookups: dict[str, keras.layers.Layer] = {}
    for column in encoding.categories:
        if column.are_texts:
            words = [*column.known, *(column.blanks if column.has_missing else ())]
            # A vocabulary must not be empty; nothing is equal to this one.
            lookups[column.name] = layers.StringLookup(vocabulary=words or ["\0"], name=names[column.name])
    for date in encoding.dates:
        lookups[date.name] = layers.TextVectorization(
            standardize=None,
            split="character",
            output_sequence_length=_DATE_LENGTH,
            vocabulary=list("0123456789"),
            name=names[date.name],
        )
    for text in encoding.texts:
        lookups[text.name] = layers.TextVectorization(
            output_mode="multi_hot", vocabulary=list(text.words) or ["\0"], name=names[text.name]
        )
    return lookups


def _features(encoding: Encoding, numbers: Mapping[str, Any]) -> Any:
    """Return the features of columns whose texts are numbers already, (rows, features)."""
    parts = []
    quantities = [ops.expand_dims(numbers[name], -1) for name in encoding.numbers]
    quantities += [_parts(date, numbers[date.name]) for date in encoding.dates]
    if quantities:
        joined = _joined(quantities)
        is_missing = ops.isnan(joined)
        x = ops.where(is_missing, encoding.medians.astype("float32"), joined)
        for layer in scaling_layers(encoding.scaling):
            x = layer(x)
        parts.append(x)
        parts += [ops.cast(is_missing[:, index : index + 1], "float32") for index in encoding.flagged]
    parts += [_one_hot(column, numbers[column.name]) for column in encoding.categories if column.features]
    # The first is for unknown words.
    parts += [ops.cast(numbers[text.name], "float32")[:, 1:] for text in encoding.texts if text.words]
    return _joined(parts)


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else layers.Concatenate(dtype="float32")(parts)


def _one_hot(column: Categories, cells: Any) -> Any:
    """Return the features of a column of categories, whose cells are numbers: their own, or from a lookup (0 is unknown)."""
    cells = ops.expand_dims(ops.cast(cells, "float32"), -1)
    count = len(column.known)
    known = np.arange(1, count + 1) if column.are_texts else np.array(column.known)
    parts = [ops.cast(ops.equal(cells, known.astype("float32")), "float32")] if count else []
    if column.are_texts:
        is_missing = ops.cast(ops.greater(cells, float(count)), "float32")
    else:
        is_missing = ops.cast(ops.isnan(cells), "float32")
    if column.has_others:
        known_at_all = ops.sum(parts[0], axis=-1, keepdims=True) if count else 0.0
        others = 1.0 - known_at_all - is_missing
        if column.are_texts and not count and not column.has_missing:
            others = ops.ones_like(cells)
        parts.append(others)
    if column.has_missing:
        parts.append(is_missing)
    return _joined(parts)


def _parts(date: Dates, characters: Any) -> Any:
    """Return the parts of dates, float32 (rows, parts), NaN where a text is not a date.

    `characters` is 0 behind the text, 1 for a character that is not a digit, 2 for the digit 0 ...
    """
    characters = ops.cast(characters, "int32")
    is_digit = ops.cast(ops.greater(characters, 1), "int32")
    before = ops.pad(is_digit[:, :-1], [[0, 0], [1, 0]])
    # Number the runs of digits: 1, 2, ...
    run = ops.cumsum(is_digit * (1 - before), axis=1)
    ordinal = ops.cumsum(is_digit, axis=1)
    runs = [_run(characters - 2, is_digit, run, ordinal, number) for number in range(1, 7)]
    year, month, day = (runs[place] for place in _PLACES[date.order])
    is_date = ops.logical_and(
        ops.logical_and(ops.greater(year, 999), ops.logical_and(ops.greater(month, 0), ops.less(month, 13))),
        ops.logical_and(ops.greater(day, 0), ops.less(day, 32)),
    )
    days = _days(year, month, day)
    time = (runs[3] * 60 + runs[4]) * 60 + runs[5]
    elapsed = ops.cast(days - date.first, "float32")
    by_part = {
        "days": elapsed + ops.cast(time, "float32") / np.float32(86400) if date.has_time else elapsed,
        "month": month,
        "day": day,
        "weekday": ops.mod(days + 3, 7),
        "hour": runs[3],
    }
    parts = ops.stack([ops.cast(by_part[part], "float32") for part in date.parts], axis=-1)
    return ops.where(ops.expand_dims(is_date, -1), parts, np.float32(np.nan))


def _run(digits: Any, is_digit: Any, run: Any, ordinal: Any, number: int) -> Any:
    """Return the whole number that the digits of a run write; 0 if there is no such run, or it is longer than 4 digits."""
    inside = is_digit * ops.cast(ops.equal(run, number), "int32")
    length = ops.sum(inside, axis=1, keepdims=True)
    # The digit's place from the right, as the last digit of the run has the largest ordinal.
    from_right = ops.max(ordinal * inside, axis=1, keepdims=True) - ordinal
    weights = sum(10**place * ops.cast(ops.equal(from_right, place), "int32") for place in range(4))
    value = ops.sum(digits * inside * weights, axis=1)
    return ops.where(ops.greater(length[:, 0], 4), 0, value)


def _days(year: Any, month: Any, day: Any) -> Any:
    """Return days since 1970 in the Gregorian calendar.

    Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms, days_from_civil; for years after 0.
    """
    year = year - ops.cast(ops.less(month, 3), "int32")
    shifted = ops.mod(month + 9, 12)
    of_year = ops.floor_divide(153 * shifted + 2, 5) + day - 1
    return (
        year * 365
        + ops.floor_divide(year, 4)
        - ops.floor_divide(year, 100)
        + ops.floor_divide(year, 400)
        + of_year
        - 719468
    )


def scaling_layers(scaling: Scaling) -> list[keras.layers.Layer]:
    """Return the layers that scale as a study does; always in float32, even if the model has another precision."""
    if scaling.mean is None or scaling.spread is None:
        return [] if scaling.divisor == 1 else [layers.Rescaling(1 / scaling.divisor, dtype="float32")]
    mean, spread = scaling.mean.tolist(), scaling.spread
    if _SPREADS[0] < spread.min() and spread.max() < _SPREADS[1]:
        return [layers.Normalization(mean=mean, variance=(spread**2).tolist(), dtype="float32")]
    return [
        layers.Normalization(mean=mean, variance=[1.0] * len(mean), dtype="float32"),
        layers.Rescaling((1 / spread).tolist(), dtype="float32"),
    ]
