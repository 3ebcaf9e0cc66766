"""Turns settings and a config into a compiled Keras model, in a worker process. Only this module compiles models."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras.src.utils import module_utils
from numpy.typing import NDArray

from search.data import Data, DataInfo
from search.data.targets import label_numbers
from search.engines import heads, model_memory
from search.engines.heads import Head, first_rows
from search.engines.hypermodels import adapter as hypermodels
from search.engines.hypermodels import stand_in
from search.engines.hypermodels.adapter import HyperModelBuilder
from search.engines.losses import keras_names, pairing
from search.engines.losses.forms import Form
from search.engines.losses.keras_names import Named
from search.engines.losses.outputs import width_of
from search.engines.losses.rules import Rule, Target, loss_of_task, rule_for
from search.engines.optimizers import make_optimizer
from search.engines.pins import Pins
from search.errors import UsageError
from search.spec import keras_callbacks
from search.spec.keras_callbacks import Entry
from search.spec.settings import Settings
from search.spec.usercode import Reference
from search.spec.vocabulary import closest, direction_in_use
from spaces import Space

# Keras's name for the variable of a SeedGenerator.
SEED_NAME = "seed_generator_state"


def leave_tensorflow_out() -> None:
    """Stop Keras on JAX from importing TensorFlow only to seed its generator: that costs seconds and hundreds of megabytes.

    Does nothing if the study's own code has imported TensorFlow.
    """
    if keras.backend.backend() == "jax" and "tensorflow" not in sys.modules:
        module_utils.tensorflow._available = False


def weights_of(trainable: Sequence[Any], other: Sequence[Any]) -> list[tuple[str, Any]]:
    """Name the weights among a model's trainable and other variables; seeds, such as a dropout's, are not weights."""
    statistics = [variable for variable in other if variable.name != SEED_NAME]
    return [
        *((f"trainable/{i}", variable) for i, variable in enumerate(trainable)),
        *((f"other/{i}", variable) for i, variable in enumerate(statistics)),
    ]


def builtin(name: str) -> ModuleType:
    """Return the module of one of our own builders."""
    return importlib.import_module(f"models.{name}")


def has_call(model: keras.Model) -> bool:
    """Whether a model computes outputs from inputs; a model with its own `train_step` may not."""
    return type(model).call is not keras.Model.call


def can_evaluate(model: keras.Model) -> bool:
    """Whether a model can be evaluated: from its outputs, or by its own `test_step`."""
    return has_call(model) or type(model).test_step is not keras.Model.test_step


def validation_batch(batch_size: int) -> int:
    """Return the batch size of evaluations: 256, or the batch size of training if that is larger.

    It affects only losses and metrics that are not a mean over rows.
    """
    return max(256, batch_size)


@dataclass(frozen=True)
class Trainer:
    """Builds and compiles models for the configs of one study.

    Attributes:
        settings: of the study.
        base: the folder that the study's paths are relative to.
        data: the training and validation rows, without the held-out rows.
        build: the builder.
        source: hash of the source of the builder and of the user's losses, metrics and callbacks.
        forms: (key, text) of a user's loss or metric, output, outputs per row -> the form of labels that it gets.
        pins: settings of Keras, JAX and the process that are restored before every model.
        hypermodel: the builder, if it has KerasTuner's form.
    """

    settings: Settings
    base: Path
    data: Data
    build: Callable[[Mapping[str, Any], DataInfo], keras.Model]
    source: str
    forms: Mapping[tuple[str, str, str, int], Form] = field(default_factory=dict)
    pins: Pins = field(default_factory=Pins.now)
    hypermodel: HyperModelBuilder | None = None

    @classmethod
    def load(cls, settings: Settings, base: Path, data: Data) -> Trainer:
        """Import the builder, losses, metrics and callbacks; UsageError if that fails."""
        reference = Reference.parse(settings.model.build, base)
        train = settings.train
        callbacks = map(keras_callbacks.name_of, train.callbacks)
        named = [entry for entry in (*train.objects, *callbacks) if isinstance(entry, str)]
        others = [other for other in (Reference.parse(entry, base) for entry in named) if other is not None]
        # Import all before hashing any: a hash covers the modules beside a file that have been imported by then.
        # Import ours first: the user's folder may have a `models/`, too.
        hypermodel = None
        if reference is None:
            if data.info.vocabulary_size and data.x_train.dtype.kind == "i":
                raise UsageError(
                    f"model.build: {settings.model.build} takes features, and x is token ids; give a builder that begins "
                    "with keras.layers.Embedding(data.vocabulary_size, ...), or set "
                    'text = { output_mode = "multi_hot" } in [data]'
                )
            builder = builtin(settings.model.build)
            build, hashes = builder.build, [str(builder.REVISION)]
        else:
            build = stand_in.load(reference)
            hypermodel = hypermodels.adapt(build, Space.parse(settings.space), settings.model.arguments)
        for other in others:
            other.check()
            other.load()
        if reference is not None:
            hashes = [reference.source_hash()]
        hashes += [other.source_hash() for other in others]
        source = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()[:32]
        forms = dict(_forms(settings, base, data))
        return cls(settings, base, data, hypermodel or build, source, forms, hypermodel=hypermodel)

    @cached_property
    def space(self) -> Space:
        return Space.parse(self.settings.space)

    def of_fold(self, replica: int) -> Trainer:
        """Return what trains a replica: on the rows of its fold, or on all rows where there are no folds."""
        return replace(self, data=self.data.folds[replica]) if self.data.folds else self

    def model(self, config: Mapping[str, Any], seed: int) -> keras.Model:
        """Build and compile the model of a config; its weights depend on `seed` alone.

        A model that the builder has compiled keeps its optimizer, loss and metrics. Errors of the builder pass through;
        TooLarge for a model that does not fit into memory while it trains.
        """
        # Undo settings that the builder of another config has changed.
        self.pins.set()
        # Restart Keras's numbering of names. The engines collect garbage, not this: it takes a tenth of a second.
        keras.utils.clear_session(free_memory=False)
        precision = self.settings.run.precision
        keras.config.set_dtype_policy("float32" if precision == "auto" else precision)
        keras.utils.set_random_seed(seed)
        with model_memory.watched(self.memory_limit()) as watch:
            model = self.build(config, self.data.info)
            if not isinstance(model, keras.Model):
                raise TypeError(f"the builder must return a keras.Model; received {type(model).__name__}")
            if not model.built and has_call(model):
                if self.data.info.inputs:
                    model(first_rows(self.data.x_train, 2))
                else:
                    model.build((None, *self.data.info.input_shape))
            if self.data.info.inputs or not self.has_own_fit:  # a hypermodel's own fit may reshape the rows
                heads.check_inputs(model, self.data)
            if not model.compiled:
                self.compile(model, config if self.hypermodel is None else self._unread(self.hypermodel, model, config))
        watch.check(model)
        return model

    def _unread(self, hypermodel: HyperModelBuilder, model: keras.Model, config: Mapping[str, Any]) -> dict[str, Any]:
        train = self.settings.train
        return hypermodel.unread(model, config, {"optimizer": train.optimizer, **train.numbers})

    def memory_limit(self) -> model_memory.MemoryLimit:
        """Return the memory that a model may take."""
        return model_memory.limit(self.settings.run.worker_memory)

    def compile(self, model: keras.Model, config: Mapping[str, Any]) -> None:
        """Compile a model with the optimizer, loss and metrics of the study; UsageError for what Keras does not know."""
        losses: dict[str, Any] = {}
        metrics: dict[str, Any] = {}
        for head in heads.heads_of(model, self.data):
            self._check_names(head)
            width = width_of(model, head.data, head.index)
            loss = self.loss(config, width, head)
            rule = rule_for(model, head.data, loss, width, head.index)
            losses[head.name] = (
                rule.loss(loss) if isinstance(loss, Named) else self._of_user("train.loss", loss, rule, head)
            )
            metrics[head.name] = [self._metric(entry, rule, head) for entry in self.metrics(head)]
        model.compile(make_optimizer(config, self.steps(config)), **self.compilation(losses, metrics))

    def compilation(self, losses: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `Model.compile` for losses and metrics by the names of heads."""
        if "" in losses:
            return {"loss": losses[""], "metrics": metrics[""]}

        def form(given: Mapping[str, Any]) -> Any:
            return dict(given) if isinstance(self.data.y_train, dict) else list(given.values())

        weights = self.settings.train.loss_weights
        weighted = weights and form({name: weights.get(name, 1.0) for name in losses})
        return {"loss": form(losses), "loss_weights": weighted, "metrics": form(metrics)}

    def _check_names(self, head: Head) -> None:
        """Refuse losses, metrics or weights of outputs that the data don't have."""
        train, there = self.settings.train, list(self.data.info.targets)
        for key, names in (
            ("train.loss", train.losses),
            ("train.metrics", train.metrics_by_output or {}),
            ("train.loss_weights", train.loss_weights or {}),
        ):
            for name in names:
                if name and name not in there:
                    have = f"; there are {', '.join(there)}" if there else ": the data have one output, without a name"
                    raise UsageError(f"{key}: no output {name!r}{closest(name, there)}{have}")
        if head.name and train.losses and "" not in train.losses and head.name not in train.losses:
            raise UsageError(
                f"train.loss: there is none of the output {head.name!r}; name one for each output, or none"
            )

    @property
    def has_own_fit(self) -> bool:
        """Whether a HyperModel's own `fit` trains the models."""
        return self.hypermodel is not None and self.hypermodel.own_fit is not None

    @property
    def objective(self) -> tuple[str, float]:
        """The name of the objective, and 1.0 to maximize it or -1.0 to minimize it."""
        study = self.settings.study
        return study.objective, 1.0 if direction_in_use(study.direction, study.objective) == "maximize" else -1.0

    def steps(self, config: Mapping[str, Any]) -> int:
        """Return the number of steps of the whole training of a config."""
        stream = self.data.stream
        batches = stream.steps if stream else -(-self.data.info.train_rows // int(config["batch_size"]))
        return batches * int(config["epochs"])

    def arrays(self) -> tuple[Any, ...]:
        """Return the training rows: x, y and, with weights of rows or classes, sample weights."""
        weights = self._sample_weights()
        rows = (self.data.x_train, self.data.y_train)
        return rows if weights is None else (*rows, weights)

    def validation(self) -> tuple[Any, ...]:
        """Return the validation rows: x, y and, if the source has weights, those."""
        data = self.data
        rows = (data.x_validation, data.y_validation)
        return rows if data.w_validation is None else (*rows, data.w_validation)

    def callbacks(
        self, config: Mapping[str, Any], make_named: Callable[[Entry], keras.callbacks.Callback] | None = None
    ) -> list[keras.callbacks.Callback]:
        """Make new instances of the study's callbacks, for one training.

        `make_named` makes those that the study names of Keras's; without it, only the user's own are made.
        """
        made = []
        for entry in self.settings.train.callbacks:
            if not keras_callbacks.is_user_code(entry):
                made += [make_named(entry)] if make_named else []
                continue
            text = keras_callbacks.name_of(entry)
            factory = self._function("train.callbacks", text)
            is_class = isinstance(factory, type)
            callback = factory() if is_class else factory(config)
            if not isinstance(callback, keras.callbacks.Callback):
                raise UsageError(f"train.callbacks: {text} must give a keras.callbacks.Callback; received {callback!r}")
            made.append(callback)
        return made

    def loss(self, config: Mapping[str, Any], width: int | None, head: Head) -> Named | str:
        """Return Keras's loss that the study names, or the task's default; or the entry of a loss of the user's own."""
        losses = self.settings.train.losses
        entry = losses.get(head.name, losses.get(""))
        if entry is None or (isinstance(entry, str) and entry.lower() in ("crossentropy", "ce")):
            return loss_of_task(head.data, width, config.get("label_smoothing"))
        return str(entry) if self.is_user_code(entry) else keras_names.find("train.loss", entry)

    def metrics(self, head: Head) -> tuple[str | dict[str, Any], ...]:
        """Return the metrics of an output: those that the study names, or the task's default."""
        given = self.settings.train.metrics_by_output
        if given is not None:
            return given.get(head.name, given.get("", ()))
        return ("mae",) if head.data.info.task == "regression" else ("accuracy",)

    def _metric(self, entry: str | dict[str, Any], rule: Rule, head: Head) -> Any:
        if self.is_user_code(entry):
            return self._of_user("train.metrics", str(entry), rule, head)
        if isinstance(entry, str) and entry.lower() in keras_names.ACCURACIES:
            accuracy = Named("train.metrics", entry, keras.metrics.Accuracy)
            return rule.metric(accuracy) if rule.decides_accuracy else entry.lower()  # Keras picks the class that fits
        return rule.metric(keras_names.find("train.metrics", entry))

    def entries(self, output: str) -> list[tuple[str, Any]]:
        """Return (key, entry) of the losses and metrics that the study names for an output."""
        return self.settings.train.of_output(output)

    def is_user_code(self, entry: object) -> bool:
        """Return whether an entry of `loss` or `metrics` names code of the user's."""
        return isinstance(entry, str) and Reference.parse(entry, self.base) is not None

    def _of_user(self, key: str, text: str, rule: Rule, head: Head) -> Any:
        """Return a loss or metric of the user's own; only the shape of its labels may be changed."""
        function = self._function(key, text)
        item = function() if isinstance(function, type) else function
        form = self.forms.get((key, text, head.name, rule.width), Form())
        return pairing.formed(item, form, is_metric=key == "train.metrics")

    def _function(self, key: str, text: str) -> Callable[..., Any]:
        reference = Reference.parse(text, self.base)
        if reference is None:
            raise UsageError(f"{key}: {text!r} is not of the form file.py:function")
        reference.check()
        return reference.load()

    def _sample_weights(self) -> Any:
        given, info, rows = self.settings.train.class_weight, self.data.info, self.data.w_train
        if given is None:
            return rows
        if self.data.stream is not None:
            raise UsageError(
                "train.class_weight: the training rows come in batches; give weights of rows there, (x, y, weights), or "
                "remove class_weight"
            )
        if info.targets:
            raise UsageError(
                "train.class_weight: the data have several outputs, and weights are of the classes of one; return weights of "
                "rows by output from the data function (w), or remove class_weight"
            )
        if info.task == "regression":
            raise UsageError("train.class_weight: the task is regression, which has no classes; remove class_weight")
        y = label_numbers(self.data.y_train)
        if given == "balanced":
            counts = np.bincount(y, minlength=info.classes)
            weights = len(y) / (info.classes * np.maximum(counts, 1))
        else:
            names = list(info.class_names) or [str(label) for label in range(info.classes)]
            unknown = sorted(set(given) - set(names))
            if unknown:
                raise UsageError(f"train.class_weight: no class {unknown[0]!r}; there are {', '.join(names)}")
            weights = np.array([given.get(name, 1.0) for name in names])
        of_classes: NDArray[np.float32] = weights[y].astype(np.float32)
        return of_classes if rows is None else of_classes * rows


def _forms(settings: Settings, base: Path, data: Data) -> Iterator[tuple[tuple[str, str, str, int], Form]]:
    """Yield the form in which each of the user's own losses and metrics gets labels, by the model's outputs per row.

    Call this before any model is built: Keras numbers the names of metrics, and the metrics made here must not count.
    """
    for output, key, text in _texts(settings, data):
        head = data.output(output)
        target = Target.of(head)
        reference = Reference.parse(text, base)
        if reference is None or target.shape not in ("flat", "column"):
            continue
        try:
            function = reference.load()
            item = function() if isinstance(function, type) else function
        except Exception:  # noqa: BLE001, S112 (compiling the first model raises the same error)
            continue
        is_metric = key == "train.metrics"
        # A model of a binary task has one output or two, one of a single number may add a variance.
        for width in {1, 2, head.info.outputs, head.info.classes} - {0}:
            yield (key, text, output, width), pairing.form_for(item, target.rows(width), is_metric=is_metric)


def _texts(settings: Settings, data: Data) -> Iterator[tuple[str, str, str]]:
    """Yield (output, key, entry) of every loss and metric that is named by a text."""
    for output in data.info.targets or ("",):
        yield from ((output, key, entry) for key, entry in settings.train.of_output(output) if isinstance(entry, str))
