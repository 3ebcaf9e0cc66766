"""Puts a study's scaling or encodings in front of a trained model, so that it takes rows as the source has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from search.data import Data, several
from search.data.several import Form
from search.data.texts import Vocabulary
from search.engines import failures, raw_rows

# Relative tolerance of outputs: the file scales rows in float32, the study scaled them in float64.
SAME_SCALED = 1e-3
_SHOWN = 5
_TOO_FEW_DIGITS = "float32 has too few digits for these rows"


@dataclass(frozen=True)
class Packed:
    """A model ready to be saved, and the validation rows in the form that it takes.

    Attributes:
        is_scaling: whether layers in front of the study's model scale or encode rows.
        is_inside: whether it takes rows as the source has them.
    """

    model: keras.Model
    rows: Any
    is_scaling: bool = False
    is_inside: bool = True
    lines: tuple[str, ...] = ()

    def staged(self, model: keras.Model) -> tuple[keras.Model, Any]:
        """Return what predicts and evaluates on this backend, the model or a part of it, and its rows."""
        return raw_rows.staged(model, self.rows)

    def predicted(self, model: keras.Model, batch_size: int) -> Any:
        """Return the outputs of a model, this one or one that was loaded, for the validation rows."""
        model_of_file, rows = self.staged(model)
        return model_of_file.predict(rows, batch_size=batch_size, verbose=0)


def pack(model: keras.Model, data: Data, outputs: Any, batch_size: int) -> Packed:
    """Put the study's scaling or encodings in front of a model; `outputs` are the study's for the validation rows."""
    if data.encodings:
        return _pack_encoded(model, data, outputs, batch_size)
    scaling, raw = data.scaling, data.raw.x_validation
    if scaling.kind == "none" and scaling.divisor == 1:
        return Packed(model, raw)
    try:
        whole = _in_front(raw_rows.scaling_layers(scaling), model, data.info.input_shape)
        is_same = are_alike(whole.predict(raw, batch_size=batch_size, verbose=0), outputs)
        why = "" if is_same else _TOO_FEW_DIGITS
    except Exception as error:  # noqa: BLE001 (a user's model may not work inside another model)
        why = failures.one_line(error)
    if why:
        how = (
            f"x / {scaling.divisor:g}"
            if scaling.kind == "none"
            else f'data.scale = "{scaling.kind}" on the training rows'
        )
        line = f"scaling is NOT inside ({why}): the model takes rows scaled by {how}"
        return Packed(model, data.x_validation, is_inside=False, lines=(line,))
    what = f"the division by {scaling.divisor:g}" if scaling.kind == "none" else f'the scaling "{scaling.kind}"'
    return Packed(whole, raw, is_scaling=True, lines=(f"it takes rows as the source has them: {what} is inside",))


def _pack_encoded(model: keras.Model, data: Data, outputs: Any, batch_size: int) -> Packed:
    """Put the encodings of tables and texts in front of a model; compare its features and outputs with the study's."""
    has_texts = any(map(raw_rows.has_texts, data.encodings.values()))
    try:
        if has_texts and not raw_rows.find_tensorflow():
            raise ModuleNotFoundError("texts and dates need TensorFlow: install it and export again")
        packed = Packed(_encoded(data, model), data.raw.x_validation, is_scaling=True)
        predicted = packed.predicted(packed.model, batch_size)
        features = packed.predicted(_encoded(data, keras.layers.Identity()), batch_size)
        why = _unlike(features, data) or ("" if are_alike(predicted, outputs) else _TOO_FEW_DIGITS)
    except Exception as error:  # noqa: BLE001 (a user's model may not work inside another model)
        why = failures.one_line(error)
    if why:
        taken = "; ".join(_taken(name, encoding) for name, encoding in data.encodings.items())
        line = f"the encoding is NOT inside ({why}): the model takes {taken}"
        return Packed(model, data.x_validation, is_inside=False, lines=(line,))
    lines = [_rows_of(data)]
    if has_texts:
        lines.append(
            "texts and dates enter as arrays of objects (str), missing ones as the empty text; this needs TensorFlow; on "
            "JAX, docs/data.md shows how"
        )
    return Packed(packed.model, packed.rows, is_scaling=True, lines=tuple(lines))


def _unlike(features: Any, data: Data) -> str:
    """Return why the features that the layers in front compute are not the study's; "" if they are."""
    form: Form = "dict" if isinstance(features, dict) else "one" if hasattr(features, "shape") else "tuple"
    studys = several.named(data.x_validation, form)
    for name, its in several.named(features, form).items():
        if not are_alike(its, studys[name]):
            input_name = f" of {name}" if name else ""
            is_text = isinstance(data.encodings.get(name), Vocabulary)
            return f"Keras's layers split the texts{input_name} into other words" if is_text else _TOO_FEW_DIGITS
    return ""


def _encoded(data: Data, model: Any) -> keras.Model:
    """Return a model of raw rows: the encodings in front of a model of features."""
    plain = data.info.inputs or {"": (data.info.input_shape, "float32")}
    form: Form = "one" if not data.info.inputs else "dict" if isinstance(data.x_validation, dict) else "tuple"
    inputs = {name: data.encodings.get(name, given) for name, given in plain.items()}
    window = data.info.input_shape[0] if len(data.info.input_shape) == 2 else 0
    return raw_rows.in_front(inputs, form, model, window)


def _taken(name: str, encoding: Any) -> str:
    """Return what a model without the encoding takes for an input."""
    what = f"{name}: " if name else ""
    if isinstance(encoding, Vocabulary):
        (described,) = encoding.described(name)
        return f"{what}{described['how']}"
    return f"{what}{len(encoding.features)} features: {', '.join(encoding.features[:_SHOWN])}, ..."


def _rows_of(data: Data) -> str:
    """Return what the model with its encodings takes."""
    if isinstance(data.encodings.get(""), Vocabulary):
        return "it takes texts as the source has them, an array (rows,)"
    kinds = ", ".join(f"{name} ({kind})" for name, kind in data.kinds.items())
    if "" in data.encodings:
        return f"it takes rows of the table, a dict of columns: {kinds}"
    texts = [f"{name} (text)" for name, encoding in data.encodings.items() if isinstance(encoding, Vocabulary)]
    others = [name for name in data.info.inputs if name not in data.encodings]
    names = ", ".join([*([kinds] if kinds else []), *texts, *others])
    return f"it takes rows as the source has them, a dict of {'columns and other ' if kinds else ''}inputs: {names}"


def _in_front(layers: Sequence[keras.layers.Layer], model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(shape, dtype="float32")
    if type(model) is keras.Sequential:
        return keras.Sequential([inputs, *layers, *model.layers], name=model.name)
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, model(x))


def are_alike(some: Any, others: Any) -> bool:
    """Return whether two structures of arrays hold the same numbers, as far as float32 scales them alike.

    Integers of the second one, such as token ids, must be equal.
    """
    pairs = zip(keras.tree.flatten(some), keras.tree.flatten(others), strict=True)
    return all(
        np.array_equal(a, b)
        if np.asarray(b).dtype.kind in "biu"
        else np.allclose(a, b, rtol=SAME_SCALED, atol=SAME_SCALED * max(1e-3, float(np.std(b))), equal_nan=True)
        for a, b in pairs
    )
