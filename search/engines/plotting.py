"""Draws a model file as a graph of its layers, or lists them. Runs in a worker process."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from keras.src.utils.model_visualization import check_graphviz, check_pydot

from search.engines import failures, loading, raw_rows
from search.spec import model_file
from search.trials.events import Noted

_WIDTH = 110


def plot(path: Path, options: Mapping[str, Any]) -> Noted:
    """Draw a model into `options["output"]`, if that is not empty and Graphviz is there; `options["code"]` as in `predict`.

    UsageError for a model that can't be loaded. The detail of Noted: `summary`, `layers`, `parameters`, and `why` there is no
    picture ("" if there is one).
    """
    notes = model_file.read(path)
    if notes.has_texts:
        raw_rows.find_tensorflow()
    model = loading.load(path, notes, [Path(file) for file in options["code"]])
    lines: list[str] = []
    # Keras's table is as wide as the terminal, which a worker has not.
    os.environ["COLUMNS"] = str(_WIDTH)
    model.summary(line_length=_WIDTH, expand_nested=True, print_fn=lambda text, **_: lines.append(text))
    detail = {
        "summary": "\n".join(lines),
        "layers": list(_layers(model)),
        "parameters": sum(math.prod(weight.shape) for weight in model.weights),
        "why": _draw(model, options["output"]) if options["output"] else "",
    }
    return Noted("model plotted", detail)


def _layers(model: keras.Model) -> Iterator[dict[str, Any]]:
    """Yield the layers of a model, those of a model within it behind it."""
    for layer in model.layers:
        tensors = getattr(layer, "output", None)
        shapes = None if tensors is None else keras.tree.map_structure(lambda tensor: list(tensor.shape), tensors)
        parameters = sum(math.prod(weight.shape) for weight in layer.weights)
        yield {"name": layer.name, "class": type(layer).__name__, "parameters": parameters, "output": shapes}
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _draw(model: keras.Model, output: str) -> str:
    """Draw a model into a file; return why that was not possible, or ""."""
    if not check_pydot():
        return "pydot is not installed: pip install pydot"
    if not check_graphviz():
        return "Graphviz is not installed (graphviz.org; its command `dot` is looked for in PATH)"
    try:
        keras.utils.plot_model(
            model, output, show_shapes=True, show_layer_names=True, expand_nested=True, show_layer_activations=True
        )
    except Exception as error:  # noqa: BLE001 (Graphviz and models of a user's own class may raise anything)
        return f"keras.utils.plot_model failed: {failures.one_line(error)}"
    return ""
