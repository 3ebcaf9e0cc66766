"""The text of my_model.py: a short builder for the form of the rows, which is the user's to change."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from search.data import Data
from search.drafting import forms
from search.drafting.baseline import are_several_labels, changes_of, scaling_of
from search.drafting.forms import Rows

_HEAD = '''"""The model of {study}.toml: {what}.

It is yours: change layers, add parameters (and name them under [space] of the study file). A changed builder is
another model, so give the next search another name: manyfit run {study}.toml --name {study}-2
"""

import keras


def build(config, data):
    """Return a model for one config of the search; manyfit compiles it, as [train] says.

    config: each parameter of [space] and each key of [model] and [train]. data: facts such as {facts}.
    """
'''

WHAT = {
    "dense": "a dense network",
    "image": "a small convolutional network, with augmentation",
    "sequence": "a recurrent network",
    "ids": "embeddings of ids, and a convolution over them",
}

_DENSE = """
for _ in range(config["depth"]):
    x = keras.layers.Dense(config["width"], activation="relu")(x)
    x = keras.layers.Dropout(config["dropout"])(x)
"""

_AUGMENT = """
if config["augment"]:  # only in training: images are moved and zoomed by chance, up to this share of their size
    x = keras.layers.RandomTranslation(config["augment"], config["augment"])(x)
    x = keras.layers.RandomZoom(config["augment"])(x)
"""

_FLIP = """
x = keras.layers.RandomFlip("horizontal")(x)  # remove it if left and right differ, as in letters
"""

_IMAGE = """
for block in range({blocks}):  # each block halves height and width
    x = keras.layers.Conv2D(config["filters"] * 2**block, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
x = keras.layers.Flatten()(x)
x = keras.layers.Dropout(config["dropout"])(x)
x = keras.layers.Dense(64, activation="relu")(x)
"""

_SHORTEN = """
for _ in range({blocks}):  # each block halves the number of steps
    x = keras.layers.Conv1D(config["width"], 5, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling1D()(x)
"""

_SEQUENCE = """
x = keras.layers.GRU(config["width"])(x)
x = keras.layers.Dropout(config["dropout"])(x)
"""

_IDS = """
x = keras.layers.Embedding({vocabulary}, config["width"])(x)  # {what}
x = keras.layers.Dropout(config["dropout"])(x)
x = keras.layers.Conv1D(config["width"], 5, padding="same", activation="relu")(x)
x = keras.layers.GlobalMaxPooling1D()(x)
"""

# The most steps that a recurrent layer gets.
_MOST_STEPS = 64


def text_of(study: str, inputs: Mapping[str, Rows], data: Data, past: int | None = None) -> str:
    """Return the builder for inputs and outputs of the data; `past`: the feature with the past of the target, in a series."""
    if is_single := list(inputs) == [""]:
        (rows,) = inputs.values()
        dtype = f', dtype="{rows.dtype}"' if rows.dtype.startswith("int") else ""
        lines = [f"inputs = keras.Input(data.input_shape{dtype})", "x = inputs", *_body("", rows)]
    else:
        lines = _joined(inputs)
    lines += _heads(data) if past is None else _forecast(data, past)
    facts = "input_shape" if is_single else "inputs (name -> shape, dtype)"
    facts += ", targets (name -> task, outputs)" if data.has_several_outputs else ", task, classes, outputs"
    returned = [
        "list(inputs.values())" if isinstance(data.x_train, tuple) else "inputs",
        "list(outputs.values())" if isinstance(data.y_train, tuple) else "outputs",
    ]
    lines.append(f"return keras.Model({', '.join(returned)})")
    what = WHAT[rows.kind] if is_single else f"{len(inputs)} inputs, joined"
    return _HEAD.format(study=study, what=what, facts=facts) + _indented(lines)


def _joined(inputs: Mapping[str, Rows]) -> list[str]:
    """Return lines that make features `x` of several inputs."""
    lines = ["inputs = {"]
    lines += [
        f"    {_text(name)}: keras.Input({rows.shape}, dtype={_text(rows.dtype)}, name={_text(name)}),"
        for name, rows in inputs.items()
    ]
    lines += ["}", "branches = []"]
    for name, rows in inputs.items():
        lines += ["", f"x = inputs[{_text(name)}]", *_body(name, rows, is_branch=True), "branches.append(x)"]
    return [*lines, "", "x = keras.layers.Concatenate()(branches)", *_lines(_DENSE)]


def _heads(data: Data) -> list[str]:
    """Return lines that make `outputs` of features `x`."""
    if not data.has_several_outputs:
        return _head("outputs", "data.outputs", data)
    lines = ["outputs = {}"]
    for name in data.info.targets:
        lines += _head(f"outputs[{_text(name)}]", f"data.targets[{_text(name)}].outputs", data.output(name))
    return lines


def _forecast(data: Data, past: int) -> list[str]:
    """Return lines that make the forecast of a series: its last value, and a learnt change."""
    changes = changes_of(data.x_train, data.y_train, data, past)
    (spread,) = forms.written(changes.mean(), changes.std())[1]
    last = f"inputs[:, -1, {past}:{past + 1}]"
    scaling = scaling_of(data)
    if scaling.mean is not None and scaling.spread is not None:
        # The last value must be exact to a part of the change, which may be far smaller than the spread of the series.
        scale, mean = (forms.to_steps(float(part[past]), spread) for part in (scaling.spread, scaling.mean))
        last = f"keras.layers.Rescaling({scale}, {mean})({last})  # rows are standardised, and the target is not"
    return [
        "# a forecast is the last known value plus a learnt change, which has this spread",
        f"last = {last}",
        f"change = keras.layers.Rescaling({spread})(keras.layers.Dense(1)(x))",
        "outputs = keras.layers.Add()([last, change])",
    ]


def _head(result: str, outputs: str, data: Data) -> list[str]:
    """Return lines that make one output: raw scores of classes, or numbers in the units of the target."""
    y = np.asarray(data.y_train)
    if data.info.task != "regression" or are_several_labels(data):
        return [f"{result} = keras.layers.Dense({outputs})(x)  # logits; the loss makes probabilities of them"]
    shape, axis = y.shape[1:], 0 if y.ndim <= 2 else None
    mean, spread = map(_of_one, forms.written(y.mean(axis=axis, dtype=np.float64), y.std(axis=axis, dtype=np.float64)))
    if axis == 0:
        lines = [f"{result} = keras.layers.Dense({outputs})(x)"]
    else:
        lines = [f"{result} = keras.layers.Dense({math.prod(shape)})(x)"]
        lines += [f"{result} = keras.layers.Reshape({shape})({result})"]
    return [
        *lines,
        "# times the spread of the target, plus its mean: the layers before learn numbers around 0",
        f"{result} = keras.layers.Rescaling({spread}, {mean})({result})",
    ]


def _of_one(numbers: list[float]) -> float | list[float]:
    """Return a single number without its list."""
    return numbers if len(numbers) > 1 else numbers[0]


def _body(name: str, rows: Rows, *, is_branch: bool = False) -> list[str]:
    """Return lines that turn `x`, an input, into features (rows, n); `name` is "" for a single input."""
    lines = _prepared(rows)
    if rows.kind == "dense":
        lines += ["x = keras.layers.Flatten()(x)"] if len(rows.shape) > 1 else []
        return lines + _lines('x = keras.layers.Dense(config["width"], activation="relu")(x)' if is_branch else _DENSE)
    if rows.kind == "image":
        return lines + _lines(_IMAGE.format(blocks=_blocks_of(rows)))
    if rows.kind == "ids":
        size, what = str(rows.vocabulary), "ids of the training and validation rows, from 0"
        if rows.is_text:
            size = f"data.vocabulary_sizes[{_text(name)}]" if name else "data.vocabulary_size"
            what = "ids of words: 0 is padding, 1 an unknown word"
        return lines + _lines(_IDS.format(vocabulary=size, what=what))
    blocks = _blocks_of(rows)
    return lines + (_lines(_SHORTEN.format(blocks=blocks)) if blocks else []) + _lines(_SEQUENCE)


def _prepared(rows: Rows) -> list[str]:
    """Return lines that bring an input into the form that the layers need."""
    lines = []
    if rows.mean is not None:
        lines += [
            "# (x - mean) / spread, so that no feature outweighs the others",
            f"x = keras.layers.Normalization(mean={rows.mean}, variance={_squares(rows.spread)})(x)",
        ]
    if rows.kind == "image" and rows.is_channels_first:
        lines += ["x = keras.layers.Permute((2, 3, 1))(x)  # colours last"]
    elif rows.kind == "image" and len(rows.shape) < 3:
        lines += [f"x = keras.layers.Reshape({rows.image})(x)"]
    elif rows.kind == "sequence" and len(rows.shape) == 1:
        lines += [f"x = keras.layers.Reshape({(*rows.shape, 1)})(x)"]
    if rows.kind == "image":
        lines += _lines(_FLIP) if rows.image[2] == 3 else []
        lines += _lines(_AUGMENT)
    return lines


def _blocks_of(rows: Rows) -> int:
    """Return how often an image, or a sequence, is halved: down to some 6 pixels, or to 64 steps."""
    if rows.kind == "image":
        return max(1, min(4, (min(rows.image[:2]) // 6).bit_length()))
    blocks = 0
    while rows.shape[0] >> blocks > _MOST_STEPS:
        blocks += 1
    return blocks


def _squares(spread: float | list[float]) -> float | list[float]:
    squares = [float(f"{value * value:.6g}") for value in (spread if isinstance(spread, list) else [spread])]
    return squares if isinstance(spread, list) else squares[0]


def _lines(text: str) -> list[str]:
    return text.strip("\n").split("\n")


def _indented(lines: Sequence[str]) -> str:
    return textwrap.indent("\n".join(lines), "    ") + "\n"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
