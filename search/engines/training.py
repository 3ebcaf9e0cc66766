"""A study's settings and a config -> a compiled Keras model. Runs in worker processes; the one room that speaks Keras."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras.src.utils import module_utils
from numpy.typing import NDArray

from search.data import Data, DataInfo
from search.engines import memory
from search.errors import UsageError
from search.settings import Settings
from search.usercode import Reference
from search.vocabulary import direction_of, optimizer_arguments, optimizer_class

# What Keras calls the variable of a SeedGenerator.
SEED_NAME = "seed_generator_state"


def leave_tensorflow_out() -> None:
    """Keep Keras on JAX from importing TensorFlow, seconds and hundreds of megabytes, only to seed its generator.

    Where a study's own code has imported it, nothing changes.
    """
    if keras.backend.backend() == "jax" and "tensorflow" not in sys.modules:
        module_utils.tensorflow._available = False


def weights_of(trainable: Sequence[Any], other: Sequence[Any]) -> list[tuple[str, Any]]:
    """Name the weights of a model, given its trainable and other variables: seeds of dropouts and the like are none."""
    statistics = [variable for variable in other if variable.name != SEED_NAME]
    return [
        *((f"trainable/{i}", variable) for i, variable in enumerate(trainable)),
        *((f"other/{i}", variable) for i, variable in enumerate(statistics)),
    ]


def builtin(name: str) -> ModuleType:
    """Return the module of one of our own builders."""
    return importlib.import_module(f"models.{name}")


def validation_batch(batch_size: int) -> int:
    """Return the batch size of evaluations: larger than a training's, since nothing depends on it."""
    return max(256, batch_size)


class ReadConfig(Mapping[str, Any]):
    """A config that remembers what was read of it: a parameter that nothing reads is probably misspelt."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self._config[key]

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return key in self._config

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of it, as a dict's own copy would be."""
        return {key: self[key] for key in self}


@dataclass(frozen=True)
class Trainer:
    """Builds and compiles models for the configs of one study.

    Attributes:
        settings: of the study.
        base: the folder its paths are relative to.
        data: loaded; the held-out rows are not in it.
        build: the builder.
        source: hash of the builder's source.
    """

    settings: Settings
    base: Path
    data: Data
    build: Callable[[Mapping[str, Any], DataInfo], keras.Model]
    source: str

    @classmethod
    def load(cls, settings: Settings, base: Path, data: Data) -> Trainer:
        """Import the builder; UsageError if it can't be."""
        reference = Reference.parse(settings.model.build, base)
        train = settings.train
        named = [entry for entry in (train.loss, *(train.metrics or ()), *train.callbacks) if isinstance(entry, str)]
        others = [other for other in (Reference.parse(entry, base) for entry in named) if other is not None]
        # All are imported before any is hashed: a hash covers the modules beside a file that are there by then.
        build = builtin(settings.model.build).build if reference is None else reference.load()
        for other in others:
            other.check()
            other.load()
        own = builtin(settings.model.build).REVISION if reference is None else reference.source_hash()
        hashes = [own, *(other.source_hash() for other in others)]
        source = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()[:32]
        return cls(settings, base, data, build, source)

    def model(self, config: Mapping[str, Any], seed: int) -> keras.Model:
        """Build and compile the model of a config, its weights drawn from `seed` alone.

        A model that comes compiled keeps its own optimizer, loss and metrics. Whatever the builder raises passes through;
        TooLarge for a model that can't be trained in the memory there is.
        """
        # Names begin anew. Collecting garbage is left to the engines: it takes a tenth of a second.
        keras.utils.clear_session(free_memory=False)
        precision = self.settings.run.precision
        keras.config.set_dtype_policy("float32" if precision == "auto" else precision)
        keras.utils.set_random_seed(seed)
        with memory.watched(self.room()) as watch:
            model = self.build(config, self.data.info)
            if not isinstance(model, keras.Model):
                raise TypeError(f"the builder must return a keras.Model; received {type(model).__name__}")
            if not model.built:
                model.build((None, *self.data.info.input_shape))
            if not model.compiled:
                self.compile(model, config)
        watch.check(model)
        return model

    def room(self) -> memory.Room:
        """Return the memory that a model may take."""
        return memory.room(self.settings.run.worker_memory)

    def compile(self, model: keras.Model, config: Mapping[str, Any]) -> None:
        """Compile a model with the optimizer, loss and metrics of the study; UsageError for what Keras does not know."""
        task, is_logits = self.data.info.task, self._is_logits(model)
        metrics = [self._metric(entry) for entry in self._metrics()]
        model.compile(
            optimizer=make_optimizer(config, self.steps(config)),
            loss=self._loss(config, is_logits=is_logits),
            metrics=[
                OfProbabilities(metric, task) if is_logits and _wants_probabilities(metric) else metric
                for metric in metrics
            ],
        )

    @property
    def objective(self) -> tuple[str, float]:
        """What a member is judged by, and 1.0 if more of it is better, else -1.0."""
        study = self.settings.study
        direction = study.direction or direction_of(study.objective)
        return study.objective, 1.0 if direction == "maximize" else -1.0

    def steps(self, config: Mapping[str, Any]) -> int:
        """Return how many steps the whole training of a config has."""
        return -(-self.data.info.train_rows // int(config["batch_size"])) * int(config["epochs"])

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the training rows: x, y and, with class weights, sample weights."""
        weights = self._sample_weights()
        rows = (self.data.x_train, self.data.y_train)
        return rows if weights is None else (*rows, weights)

    def callbacks(self, config: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Make the user's callbacks, fresh for one training."""
        made = []
        for text in self.settings.train.callbacks:
            factory = self._function("train.callbacks", text)
            is_class = isinstance(factory, type)
            callback = factory() if is_class else factory(config)
            if not isinstance(callback, keras.callbacks.Callback):
                raise UsageError(f"train.callbacks: {text} must give a keras.callbacks.Callback; received {callback!r}")
            made.append(callback)
        return made

    def _metrics(self) -> tuple[str | dict[str, Any], ...]:
        given = self.settings.train.metrics
        if given is not None:
            return given
        return ("mae",) if self.data.info.task == "regression" else ("accuracy",)

    def _metric(self, entry: str | dict[str, Any]) -> Any:
        if isinstance(entry, str) and entry.lower() in ("accuracy", "acc"):
            if self.data.info.task == "binary":
                return keras.metrics.BinaryAccuracy(name=entry.lower())
            return entry.lower()  # Keras picks the kind that fits loss and labels
        found = self._named("train.metrics", entry, keras.metrics)
        if isinstance(found, keras.metrics.Metric) and isinstance(entry, str) and ":" not in entry:
            # Keras numbers the names of metrics through a process: the second trial's would be "auc_1".
            found = type(found).from_config({**found.get_config(), "name": entry.lower()})
        return found

    def _loss(self, config: Mapping[str, Any], *, is_logits: bool) -> Any:
        entry, task = self.settings.train.loss, self.data.info.task
        if entry is not None:
            return self._named_loss(entry, is_logits=is_logits)
        smoothing = config.get("label_smoothing", 0.0)
        if task == "regression":
            return keras.losses.MeanSquaredError()
        if task == "binary":
            return keras.losses.BinaryCrossentropy(from_logits=is_logits, label_smoothing=smoothing)
        if "label_smoothing" not in config:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits)
        return SmoothedCrossentropy(self.data.info.classes, from_logits=is_logits, label_smoothing=smoothing)

    def _named_loss(self, entry: str | dict[str, Any], *, is_logits: bool) -> Any:
        """Return the loss that a study file names; one of Keras's own is told whether it gets logits."""
        if isinstance(entry, str) and ":" not in entry:
            classes = (name for name in dir(keras.losses) if name.lower() == entry.replace("_", "").lower())
            entry = {"name": next(classes, entry)}
        found = self._named("train.loss", entry, keras.losses)
        if isinstance(found, keras.losses.Loss) and isinstance(entry, dict) and "from_logits" not in entry:
            config = found.get_config()
            if "from_logits" in config:
                found = type(found).from_config({**config, "from_logits": is_logits})
        return found

    def _is_logits(self, model: keras.Model) -> bool:
        """Tell whether a model's outputs are logits; UsageError if that can't be told and the task's own loss needs it."""
        task, loss = self.data.info.task, self.settings.train.loss
        if task == "regression":
            return False
        if isinstance(loss, dict) and "from_logits" in loss:
            return bool(loss["from_logits"])
        name = loss if isinstance(loss, str) else str((loss or {}).get("name", "crossentropy"))
        if ":" not in name and "crossentropy" not in name.replace("_", "").lower():
            return False  # a loss of plain numbers, such as the mean squared error
        try:
            return gives_logits(model, self.data.x_train[:8], task)
        except UsageError:
            if loss is None:
                raise
            return False

    def _named(self, key: str, entry: str | dict[str, Any], room: Any) -> Any:
        """Return the loss or metric that a study file names: Keras's own by name or table, or the user's function."""
        if isinstance(entry, str) and Reference.parse(entry, self.base):
            found = self._function(key, entry)
            return found() if isinstance(found, type) else found
        if isinstance(entry, dict):
            options = dict(entry)
            entry = str(options.pop("name", ""))
            identifier: Any = {"class_name": entry, "config": options}
        else:
            identifier = entry
        try:
            return room.get(identifier)
        except (ValueError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(
                f"{key}: Keras does not take {entry!r}: {first}; see the names in Keras's API docs"
            ) from None

    def _function(self, key: str, text: str) -> Callable[..., Any]:
        reference = Reference.parse(text, self.base)
        if reference is None:
            raise UsageError(f"{key}: {text!r} is not of the form file.py:function")
        reference.check()
        return reference.load()

    def _sample_weights(self) -> NDArray[np.float32] | None:
        given, y = self.settings.train.class_weight, self.data.y_train
        if given is None:
            return None
        info = self.data.info
        if info.task == "regression":
            raise UsageError("train.class_weight: the task is regression, which has no classes; remove class_weight")
        if given == "balanced":
            counts = np.bincount(y, minlength=info.classes)
            weights = len(y) / (info.classes * np.maximum(counts, 1))
        else:
            names = list(info.class_names) or [str(label) for label in range(info.classes)]
            unknown = sorted(set(given) - set(names))
            if unknown:
                raise UsageError(f"train.class_weight: no class {unknown[0]!r}; there are {', '.join(names)}")
            weights = np.array([given.get(name, 1.0) for name in names])
        return weights[y].astype(np.float32)


class OfProbabilities(keras.metrics.Metric):  # type: ignore[misc]
    """A metric that wants probabilities, for a model that gives logits: accuracy cuts at 0.5, not at a logit of 0.5."""

    def __init__(self, metric: keras.metrics.Metric, task: str) -> None:
        super().__init__(name=metric.name)
        self.metric, self.task = metric, task

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        squash = keras.ops.sigmoid if self.task == "binary" else keras.ops.softmax
        self.metric.update_state(y_true, squash(y_pred), sample_weight=sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        return {"metric": keras.saving.serialize_keras_object(self.metric), "task": self.task}


def _wants_probabilities(metric: Any) -> bool:
    """Whether a metric is one of Keras's own that is told nothing of logits; users' own see what the model gives."""
    if not isinstance(metric, keras.metrics.Metric) or not type(metric).__module__.startswith("keras."):
        return False
    return not metric.get_config().get("from_logits", False)


class SmoothedCrossentropy(keras.losses.Loss):  # type: ignore[misc]
    """Categorical cross-entropy of whole labels with label smoothing, which Keras's sparse loss has not."""

    lane_numbers = ("label_smoothing",)

    def __init__(self, classes: int, *, from_logits: bool, label_smoothing: float) -> None:
        super().__init__(name="smoothed_crossentropy")
        self._classes, self._from_logits, self.label_smoothing = classes, from_logits, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        one_hot = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32"), self._classes)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=self._from_logits, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        return {"classes": self._classes, "from_logits": self._from_logits, "label_smoothing": self.label_smoothing}


class Decay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A linear warm-up from 0 to the learning rate, then its decay to `end_factor` times it at the last step.

    Args:
        kind: "constant", "cosine", "linear" or "exponential".
        steps: of the whole training.
        warmup: the share of the steps in which the rate rises.
        end_factor: last rate / learning rate; "exponential" needs it above 0.

    Source: cosine without restarts, SGDR (Loshchilov & Hutter, 2017, arXiv:1608.03983); warm-up, Goyal et al. (2017).
    """

    lane_numbers = ("learning_rate", "steps", "warmup", "end_factor")

    def __init__(self, learning_rate: float, kind: str, steps: int, warmup: float, end_factor: float) -> None:
        super().__init__()
        self.learning_rate, self.kind, self.steps = learning_rate, kind, steps
        self.warmup, self.end_factor = warmup, end_factor

    def __call__(self, step: Any) -> Any:
        # In keras.ops throughout: any of the numbers may be an array of a lane's.
        ops = keras.ops
        step = ops.cast(step, "float32")
        risen = self.warmup * self.steps
        share = ops.clip((step - risen) / ops.maximum(self.steps - risen, 1.0), 0.0, 1.0)
        if self.kind == "cosine":
            factor = self.end_factor + (1 - self.end_factor) * 0.5 * (1 + ops.cos(np.pi * share))
        elif self.kind == "linear":
            factor = 1 - (1 - self.end_factor) * share
        elif self.kind == "exponential":
            factor = ops.exp(share * ops.log(self.end_factor * ops.ones_like(share)))
        else:
            factor = ops.ones_like(share)
        return self.learning_rate * factor * ops.minimum(1.0, (step + 1) / ops.maximum(risen, 1.0))

    def get_config(self) -> dict[str, Any]:
        names = ("learning_rate", "kind", "steps", "warmup", "end_factor")
        return {name: getattr(self, name) for name in names}


def make_optimizer(config: Mapping[str, Any], steps: int) -> keras.optimizers.Optimizer:
    """Make the optimizer of a config: those of its numbers that the optimizer takes, Keras's defaults for the rest.

    `steps` is the length of the whole training, for schedules. ValueError or TypeError if Keras refuses a number.
    """
    name = config["optimizer"]
    kind = getattr(keras.optimizers, optimizer_class(name))
    numbers = {key: config[key] for key in optimizer_arguments(name) if key in config}
    schedule, warmup = config.get("schedule", "constant"), config.get("warmup", 0.0)
    if schedule != "constant" or warmup:
        rate = numbers.get("learning_rate", kind().get_config()["learning_rate"])
        end_factor = config.get("end_factor", 0.01 if schedule == "exponential" else 0.0)
        if schedule == "exponential" and not end_factor:
            raise UsageError("train.end_factor: an exponential schedule needs it above 0; received 0")
        numbers["learning_rate"] = Decay(rate, schedule, steps, warmup, end_factor)
    return kind(**numbers)


def gives_logits(model: keras.Model, x: NDArray[Any], task: str) -> bool:
    """Tell whether a classifier's outputs are logits, by its last activation or, failing that, by what it gives for `x`.

    UsageError where that can't be told.
    """
    activation = getattr(_last_with_activation(model), "activation", None)
    if activation is not None:
        return activation is keras.activations.linear
    outputs = np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))
    if outputs.min() < 0 or outputs.max() > 1:
        return True
    if task == "classification":
        return not np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-3)
    raise UsageError(
        "train.loss: whether this model gives probabilities or logits can't be told; "
        'add loss = { name = "BinaryCrossentropy", from_logits = true } (or false)'
    )


def _last_with_activation(model: keras.Model) -> keras.layers.Layer | None:
    """Return the layer whose activation shapes the output of a Sequential or Functional model."""
    try:
        layer = model.layers[-1] if isinstance(model, keras.Sequential) else model.outputs[0]._keras_history.operation
    except (AttributeError, IndexError, TypeError):
        return None
    if isinstance(layer, keras.Model):
        return _last_with_activation(layer)
    return layer
