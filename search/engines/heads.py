"""Pairs the arrays of a study's rows with the inputs and outputs of a model.

Keras pairs dictionaries and lists by position where their names differ, so that an output would be compared with the targets
of another: such models are refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.src import backend
from keras.src.models.functional import Functional

from search.data import Data
from search.errors import UsageError


@dataclass(frozen=True)
class Head:
    """An output of a model and the data as this output gets them.

    Attributes:
        name: of the targets in the data; "" for a single array.
        index: among the model's flat outputs; None for the only output.
        data: the study's data with the targets of this output.
        outputs: how many outputs the data have.
    """

    name: str
    index: int | None
    data: Data
    outputs: int = 1


def first_rows(tree: Any, rows: int) -> Any:
    """Return the first rows of an array, or of each array of a dictionary or tuple."""
    return keras.tree.map_structure(lambda array: array[:rows], tree)


def heads_of(model: keras.Model, data: Data) -> list[Head]:
    """Return the outputs of a model in the order of its flat outputs; UsageError if they don't pair with the targets."""
    if not data.has_several_outputs:
        return [Head("", None, data)]
    outputs = _outputs(model, data)
    targets = list(data.info.targets)
    is_named = isinstance(data.y_train, dict)
    if isinstance(outputs, dict):
        names = list(outputs) if is_named else []
        flat = _names_in_order(outputs)
    elif isinstance(outputs, list | tuple):
        names = list(getattr(model, "output_names", None) or []) if is_named else [str(i) for i in range(len(outputs))]
        flat = names
    else:
        names = flat = []
    if set(names) != set(targets) or len(names) != len(targets):
        raise UsageError(
            f"model.build: the model gives {_shown(outputs, model)}, and y is {_given(data.y_train)}; {_ADVICE}"
        )
    if isinstance(data.w_train, dict) and not isinstance(outputs, dict):
        raise UsageError(
            "model.build: Keras takes weights of rows by output only for a model whose outputs are a dictionary; return "
            'keras.Model(inputs, {"...": ...}), or give one array of weights for all outputs'
        )
    return [Head(name, index, data.output(name), len(flat)) for index, name in enumerate(flat)]


def compiled_loss(model: keras.Model, index: int | None) -> Any:
    """Return the loss of an output of a compiled model, as `compile` got it; None if it has none."""
    given = getattr(model, "loss", None)
    losses = keras.tree.flatten(given) if isinstance(given, list | tuple | dict) else [given]
    return losses[index or 0] if len(losses) > (index or 0) else None


def check_inputs(model: keras.Model, data: Data) -> None:
    """Refuse a model that can't take the features. The code of a model class may take any."""
    if not isinstance(model, Functional | keras.Sequential):
        return
    if not data.info.inputs:
        _check_shape(model, data)
        return
    struct = getattr(model, "_inputs_struct", None)
    given = list(data.info.inputs)
    if isinstance(data.x_train, dict):
        if isinstance(struct, dict):
            fits = set(struct) == set(given)
        else:
            fits = {tensor.name for tensor in keras.tree.flatten(struct)} <= set(given)
    else:
        fits = isinstance(struct, list | tuple) and len(struct) == len(given)
    if isinstance(model, keras.Sequential) or not fits:
        shown = _shown(struct, model) if struct is not None else "one input"
        raise UsageError(
            f"model.build: the model takes {shown}, and x is {_given(data.x_train)}; name its inputs as the data do, "
            'keras.Input(shape, name="..."), or give inputs={"...": ...}'
        )


def _check_shape(model: keras.Model, data: Data) -> None:
    """Refuse a model whose only input has another shape than the rows, unless it takes them all the same."""
    tensors = keras.tree.flatten(getattr(model, "inputs", None) or [])
    given = tuple(data.x_train.shape[1:])
    if len(tensors) != 1 or type(model).train_step is not keras.Model.train_step or _fits(tensors[0].shape[1:], given):
        return
    try:
        with backend.StatelessScope():
            model(first_rows(data.x_train, 2), training=False)
    except Exception:  # noqa: BLE001 (layers may raise anything)
        raise UsageError(
            f"model.build: the model takes rows of the shape {_row(tensors[0].shape[1:])}, and those of the data have "
            f"{_row(given)}; begin it with keras.Input({_row(given)}), which is data.input_shape"
        ) from None


def _fits(wanted: Sequence[int | None], given: Sequence[int]) -> bool:
    """Return whether Keras takes rows of a shape for an input: it adds and drops a last axis of length 1."""
    forms = [tuple(given), (*given, 1), *([tuple(given[:-1])] if given and given[-1] == 1 else [])]
    return any(
        len(form) == len(wanted) and all(size in (None, own) for size, own in zip(wanted, form, strict=True))
        for form in forms
    )


def _row(shape: Sequence[int | None]) -> str:
    return str(tuple(None if size is None else int(size) for size in shape))


def inputs_of(model: keras.Model, data: Data) -> Iterator[tuple[str, Any, str]]:
    """Yield (name, training rows, dtype of the model's input) of each input that a model declares; "" is a single array."""
    tensors: Any = getattr(model, "_inputs_struct", None)
    if not data.info.inputs:
        flat = keras.tree.flatten(getattr(model, "inputs", None) or [])
        if flat:
            yield "", data.x_train, str(flat[0].dtype)
        return
    if tensors is None:
        return  # the code of a model class gets the features unchanged
    if isinstance(data.x_train, dict):
        by_name = tensors if isinstance(tensors, dict) else {t.name: t for t in keras.tree.flatten(tensors)}
        yield from ((name, data.x_train[name], str(tensor.dtype)) for name, tensor in by_name.items())
    else:
        for number, (x, tensor) in enumerate(zip(data.x_train, tensors, strict=True)):
            yield str(number), x, str(tensor.dtype)


_ADVICE = 'name its outputs as the data do: keras.Model(inputs, {"...": ...}), or layers with these names at the end'


def _outputs(model: keras.Model, data: Data) -> Any:
    """Return a model's outputs in their structure."""
    struct = getattr(model, "_outputs_struct", None)
    if struct is not None:
        return struct
    with backend.StatelessScope():
        return model(first_rows(data.x_train, 2), training=False)


def _names_in_order(outputs: dict[str, Any]) -> list[str]:
    """Return the names of outputs in the order in which Keras flattens them."""
    numbers = {name: number for number, name in enumerate(outputs)}
    order: Sequence[int] = keras.tree.flatten(numbers)
    by_number = {number: name for name, number in numbers.items()}
    return [by_number[number] for number in order]


def _shown(struct: Any, model: keras.Model) -> str:
    if isinstance(struct, dict):
        return f"a dictionary of {', '.join(struct)}"
    tensors = keras.tree.flatten(struct)
    names = [str(getattr(tensor, "name", "?")) for tensor in tensors]
    if tensors and tensors[0] is (model.outputs or [None])[0]:
        names = list(getattr(model, "output_names", names))
    return f"{len(tensors)} arrays ({', '.join(names)})" if len(tensors) != 1 else "one array"


def _given(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"a dictionary of {', '.join(tree)}"
    return f"a tuple of {len(tree)} arrays" if isinstance(tree, tuple) else "one array"
