"""Finds Keras's own losses and metrics that give the same values as a study's, for a saved model file.

A study may train with classes of ours (a metric of probabilities on logits, a smoothed loss of class numbers), and Keras
can't open a file that names them. Equality is tested by computing both objects on real and on random outputs.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.data.targets import label_numbers
from search.engines.losses import keras_names
from search.engines.losses.keras_names import Named

Entry = str | dict[str, Any]

# Tolerance: two float32 sums over the same rows differ by less.
SAME = 1e-5
# Rows per sample: so many that different losses or metrics do not agree by chance.
_SAMPLE = 256
# Stands for a lambda: Keras opens a file with one only with safe_mode=False.
LAMBDA = "a lambda"


@dataclass(frozen=True)
class Labels:
    """The labels of the validation rows, in the forms that Keras's losses and metrics take.

    Attributes:
        study: as the study's own losses and metrics get them.
        forms: "labels" (as in the study; classes are numbers) and, for classes, "one-hot"; the source's form is first. Flat
            labels as a "column" are for recipes only: `evaluate` of a file takes one of the others.
        texts: how to get each form from the source's labels.
    """

    study: NDArray[Any]
    forms: dict[str, NDArray[Any]]
    texts: dict[str, str]

    @classmethod
    def of(cls, y: NDArray[Any], *, task: str, classes: int, is_one_hot: bool) -> Labels:
        """Return the labels of a study in all forms; `is_one_hot`: the source has one-hot labels."""
        # A source without a shape of its own, such as a table, may have flat labels where the study has a column.
        forms, text = {"labels": y}, "labels.reshape(-1, 1)" if y.shape[1:] == (1,) else "labels"
        if task != "regression":
            numbers = label_numbers(y).astype(np.int32)
            one_hot = np.eye(classes, dtype=np.float32)[numbers]
            forms["one-hot"] = one_hot
            if is_one_hot:
                text = "labels.argmax(-1)"
                forms = {"one-hot": one_hot, "labels": numbers}
                if task == "binary":
                    # Of one output, Keras's metrics take a column.
                    text, forms["labels"] = f"{text}.reshape(-1, 1)", numbers.reshape(-1, 1)
        if forms["labels"].ndim == 1:
            forms["column"] = forms["labels"].reshape(-1, 1)
        return cls(y, forms, {"labels": text, "one-hot": "one-hot labels", "column": f"{text}.reshape(-1, 1)"})


@dataclass(frozen=True)
class Chosen:
    """An object of Keras and the form of labels that it takes."""

    object: Any
    form: str


class Yardstick:
    """Rows to compare a study's loss or metric with one of Keras's: with real, permuted and random outputs."""

    def __init__(self, labels: Labels, outputs: NDArray[Any]) -> None:
        rng = np.random.default_rng(0)
        self.forms, self.texts = tuple(labels.forms), labels.texts
        count = min(len(outputs), _SAMPLE)
        drawn = rng.permutation(len(outputs))[:count]
        repeated = rng.integers(len(outputs), size=_SAMPLE)
        random = rng.normal(0.0, 2.0, (_SAMPLE, *outputs.shape[1:])).astype(outputs.dtype)
        pairs = ((drawn, outputs[drawn]), (drawn, outputs[rng.permutation(drawn)]), (repeated, random))
        self._samples = [
            (labels.study[rows], {form: y[rows] for form, y in labels.forms.items()}, given) for rows, given in pairs
        ]

    def agrees(self, study: Any, candidate: Any, form: str, squash: Any = None) -> bool:
        """Whether `candidate`, with labels of `form` and with outputs through `squash`, gives the same values as `study`."""
        compared = 0
        for y, forms, outputs in self._samples:
            # The study's object may reject random outputs; Keras's may reject labels or outputs of this form.
            if (expected := _value(study, y, outputs)) is None:
                continue
            received = _value(candidate, forms[form], outputs if squash is None else squash(outputs))
            if received is None or not _is_same(received, expected):
                return False
            compared += bool(np.all(np.isfinite(expected)))
        return compared > 0


def loss(study: Any, named: Named | str, yardstick: Yardstick) -> Chosen | None:
    """Return a loss of Keras's that is equal to the study's; None if there is none, or if the study's is the user's code.

    `named` is the loss that the study made its own from, in its own form; or the entry of the user's.
    """
    if isinstance(named, str):
        return None
    for form in yardstick.forms:
        for candidate in _variants(*_kind_and_options(named), keras.losses):
            if form != "column" and yardstick.agrees(study, candidate, form):
                return Chosen(candidate, form)
    return None


def metric(study: Any, entry: Entry, yardstick: Yardstick, form: str) -> Any | None:
    """Return a metric of Keras's that is equal to the study's on labels of `form`, under the same name; or None."""
    for candidate in _metrics(entry, study):
        if yardstick.agrees(study, candidate, form):
            candidate.reset_state()
            return candidate
    return None


def recipe(study: Any, entry: Entry, yardstick: Yardstick) -> str:
    """Return a text that explains how to compute a metric that has no equal in Keras on a model's plain outputs."""
    squashes = {"the outputs": None, "their sigmoid": keras.ops.sigmoid, "their softmax": keras.ops.softmax}
    for candidate, form, (what, squash) in product(_metrics(entry, study), yardstick.forms, squashes.items()):
        if yardstick.agrees(study, candidate, form, squash):
            return f"compute it by keras.metrics.{_call(candidate)} of {yardstick.texts[form]} and {_where(what)}"
    if is_users(entry):
        return "it is code of yours; compile the model with it after loading"
    return "no object of Keras's that was tried gives it"


def is_users(entry: Entry | None) -> bool:
    """Whether an entry of the study file is the user's code."""
    return isinstance(entry, str) and ":" in entry


def foreign(config: Any) -> dict[str, str]:
    """Return the parts of a serialized object that are not Keras's own: name -> module."""
    if isinstance(config, Mapping):
        modules = {name: module for value in config.values() for name, module in foreign(value).items()}
        kind, module = config.get("class_name"), str(config.get("module"))
        if kind == "__lambda__":
            modules[LAMBDA] = module
        elif kind == "function" and not _is_function_of_keras(str(config.get("config"))):
            modules[str(config["config"]).rpartition(">")[2]] = module
        elif isinstance(kind, str) and module not in ("None", "builtins", "keras") and not module.startswith("keras."):
            modules[kind] = module
        return modules
    if isinstance(config, list | tuple):
        return {name: module for value in config for name, module in foreign(value).items()}
    return {}


def users(name: str, module: str) -> Any:
    """Return a class or function of the user's, or None. Keras saves no module of a function, so all modules are searched."""
    if item := getattr(sys.modules.get(module), name, None):
        return item
    return next(
        (
            item
            for key, other in list(sys.modules.items())
            if (item := vars(other).get(name)) is not None and getattr(item, "__module__", None) == key
        ),
        None,
    )


def foreign_in(path: Path) -> dict[str, str]:
    """Return the parts of a model file that are not Keras's own: name -> module."""
    with zipfile.ZipFile(path) as file:
        return foreign(json.loads(file.read("config.json")))


def completed(item: Any) -> Any:
    """Add the options that `get_config` of some of Keras's losses and metrics omits, such as Huber's delta or an axis."""
    if not str(type(item).__module__).startswith("keras."):
        return item
    config, takes = item.get_config(), inspect.signature(type(item)).parameters
    omitted = {
        key: value for key, value in getattr(item, "_fn_kwargs", {}).items() if key in takes and key not in config
    }
    if omitted:
        # Call the class's `get_config` only on saving: the name may change until then.
        item.get_config = lambda: {**type(item).get_config(item), **omitted}
    return item


def is_of_keras(item: Any) -> bool:
    """Whether an argument of `compile` contains only Keras's own classes and functions."""
    if inspect.isfunction(item):
        # Keras saves only a function's name, and a user's function may have the name of one of Keras's.
        return item.__module__.startswith("keras.")
    try:
        return not foreign(keras.saving.serialize_keras_object(item))
    except Exception:  # noqa: BLE001 (the user's get_config may raise anything)
        return False


def _is_function_of_keras(name: str) -> bool:
    modules = (
        keras.activations, keras.constraints, keras.initializers, keras.losses, keras.metrics, keras.optimizers,
        keras.regularizers,
    )  # fmt: skip
    return any(hasattr(module, name) for module in modules)


def _value(item: Any, y: NDArray[Any], outputs: Any) -> NDArray[Any] | None:
    """Return the value of a loss or metric; None if it raises."""
    try:
        if isinstance(item, keras.metrics.Metric):
            item.reset_state()
            item.update_state(y, outputs)
            result = item.result()
        else:
            result = keras.ops.mean(item(y, outputs))
    except Exception:  # noqa: BLE001 (the user's own, or a form that Keras rejects)
        return None
    return np.asarray(result)


def _is_same(some: NDArray[Any], others: NDArray[Any]) -> bool:
    return some.shape == others.shape and np.allclose(some, others, rtol=SAME, atol=SAME, equal_nan=True)


def _kind_and_options(named: Named) -> tuple[str, dict[str, Any]]:
    """Return the name of the class, and the options of all its candidates."""
    logits = {} if named.from_logits is None else {"from_logits": named.from_logits}
    # Without smoothing, the class of whole numbers has the same values, and lacks the option.
    options = {name: value for name, value in named.options.items() if name != "label_smoothing" or value}
    return named.name, {**options, **logits}


def _metrics(entry: Entry, study: Any) -> Iterator[Any]:
    """Yield all metrics of Keras that `entry` may mean, under the name of the study's metric."""
    name, inner = study.name, getattr(study, "metric", study)
    if type(inner).__module__.startswith("keras.") and not isinstance(inner, keras.metrics.MeanMetricWrapper):
        # The study may have set options that the entry omits, such as an average or a threshold.
        yield type(inner).from_config({**inner.get_config(), "name": name})
    if is_users(entry):
        return
    if isinstance(entry, str) and entry.lower() in keras_names.ACCURACIES:
        wanted: list[tuple[str, dict[str, Any]]] = [
            (kind, {}) for kind in ("BinaryAccuracy", "CategoricalAccuracy", "Accuracy")
        ]
    else:
        wanted = [_kind_and_options(keras_names.find("train.metrics", entry))]
    for kind, options in wanted:
        for metric in _variants(kind, options, keras.metrics):
            metric.name = name
            yield metric
        for loss in _variants(kind, options, keras.losses):
            yield keras.metrics.MeanMetricWrapper(loss.fn, name=name, **loss._fn_kwargs)


def _variants(name: str, options: Mapping[str, Any], module: Any) -> Iterator[Any]:
    """Yield a loss or metric as it is, for logits, and for labels in the other form, as far as `module` has its classes."""
    other = name.removeprefix("Sparse") if name.startswith("Sparse") else f"Sparse{name}"
    for kind in (getattr(module, known) for known in (name, other) if hasattr(module, known)):
        for more in _settings(kind, options):
            try:
                yield completed(kind(**{**options, **more}))
            except (TypeError, ValueError):
                continue


def _settings(kind: Any, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield constructor arguments of a Keras class for probabilities and for logits."""
    yield {}
    takes = inspect.signature(kind).parameters
    if "from_logits" in takes and "from_logits" not in options:
        yield {"from_logits": True}
    threshold = options.get("threshold", 0.5)
    if kind is keras.metrics.BinaryAccuracy and 0 < threshold < 1:
        yield {"threshold": math.log(threshold / (1 - threshold))}


def _call(metric: keras.metrics.Metric) -> str:
    """Return the code that makes a metric: its class, and the options that are not Keras's defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(metric)).parameters.items()}
    given = {name: value for name, value in metric.get_config().items() if name not in ("name", "dtype")}
    changed = [f"{name}={value!r}" for name, value in given.items() if name in defaults and value != defaults[name]]
    return type(metric).__name__ + (f"({', '.join(changed)})" if changed else "")


def _where(what: str) -> str:
    return "model.predict(x)" if what == "the outputs" else f"{what.removeprefix('their ')} of model.predict(x)"
