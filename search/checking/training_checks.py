"""Checks of how a study's model trains, in a worker process: losses of a few short trainings, and what outputs depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.checking import learning_rate, net_inputs
from search.checking.exhibit import Exhibit
from search.checking.labels import labels
from search.checking.report import NotApplicable
from search.checking.short_training import BATCH, STEPS, ShortTraining
from search.data.targets import label_numbers
from search.engines.training import Trainer, has_call
from search.spec.finding import Finding

# Rows of the training with and without inputs, and of the loss at the start.
_ROWS = 512
_MORE = 5
# An untrained model whose squared error is this many times the variance of its targets begins far from them.
_FAR_FROM_MEAN = 10.0


@dataclass(frozen=True)
class TrainingChecks:
    """The checks of the model of one config."""

    short: ShortTraining
    config: Mapping[str, Any]

    @property
    def trainer(self) -> Trainer:
        return self.short.trainer

    @property
    def model(self) -> keras.Model:
        return self.short.model

    def checks(self) -> Mapping[str, Callable[[], Iterator[Finding | Exhibit]]]:
        """Return the checks, by name."""
        return {
            "labels": lambda: labels(self.model, self.trainer),
            "into the net": self.into_the_net,
            "loss at start": self.loss_at_start,
            "learning rate": self.learning_rate,
            "batch mixing": self.batch_mixing,
            "one batch": self.one_batch,
            "inputs matter": self.inputs_matter,
        }

    def into_the_net(self) -> Iterator[Finding | Exhibit]:
        """Yield the range of what the first layer with weights gets, after all scaling and augmentation, and show it."""
        x, _ = self.short.rows(BATCH)
        values, layer = net_inputs.values_of(self.model, x)
        yield net_inputs.finding(values, layer)
        yield from net_inputs.exhibits(values)

    def learning_rate(self) -> Iterator[Finding | Exhibit]:
        """Yield whether the loss falls at the space's learning rates; the later checks train at a rate where it does."""
        rate = learning_rate.config_rate(self.model, self.config)
        test = learning_rate.range_test(self.short)
        space = self.trainer.space
        yield learning_rate.finding(test, space, rate, self.trainer.steps(self.config))
        self.short.rate = test.rate or rate
        yield learning_rate.exhibit(test, learning_rate.rates_of(space) or (rate, rate))

    def loss_at_start(self) -> Iterator[Finding]:
        """Yield the untrained model's loss beside that of a constant prediction."""
        self.short.reset()
        x, y = self.short.rows(_ROWS)
        loss = self.short.loss(x, y)
        numbers = {"loss": loss}
        if not math.isfinite(loss):
            advice = "look at the scale of the inputs (data.scale), at the layers and at the loss"
            yield Finding("loss at start", "stop", f"the untrained model's loss is {loss}", advice, numbers)
            return
        kind = _kind_of_loss(self.model, self.trainer)
        if kind == "crossentropy":
            yield self._start_of_classes(loss)
        elif kind == "squared error":
            yield _start_of_numbers(loss, y)
        else:
            yield Finding("loss at start", "ok", f"{loss:.4g}, finite", numbers=numbers)

    def _start_of_classes(self, loss: float) -> Finding:
        classes = self.trainer.data.info.classes
        shares = np.bincount(label_numbers(np.asarray(self.trainer.data.y_train)), minlength=classes) + 1e-9
        shares = shares / shares.sum()
        equal, entropy = math.log(classes), float(-(shares * np.log(shares)).sum())
        text = f"{loss:.4g}; equal shares of {classes} classes have {equal:.4g}"
        text += f", the labels' own shares {entropy:.4g}" if entropy < 0.9 * equal else ""
        numbers = {"loss": loss, "equal shares": equal, "entropy": entropy}
        if loss > 1.5 * equal + 0.3:
            advice = "scale the inputs (data.scale), or initialize the last layer with smaller weights"
            return Finding("loss at start", "look", text, advice, numbers)
        return Finding("loss at start", "ok", text, numbers=numbers)

    def batch_mixing(self) -> Iterator[Finding]:
        """Yield whether a row's output depends on the other rows of its batch, in inference mode."""
        if not has_call(self.model):
            raise NotApplicable("the model has no call method")
        self.short.reset()
        x, _ = self.short.rows(BATCH)
        count = len(keras.tree.flatten(x)[0])
        if count < 3:
            raise NotApplicable("there are fewer than 3 rows")
        whole, again = self._first_output(x), self._first_output(x)
        scale = max(float(np.abs(whole).max()), 1e-6)
        if np.abs(whole - again).max() > 1e-4 * scale:
            raise NotApplicable("the model draws numbers in inference, too")
        # The first row stays; the last one takes the place of all others.
        order = np.array([0] + [count - 1] * (count - 1))
        other = self._first_output(keras.tree.map_structure(lambda array: array[order], x))
        change = float(np.abs(whole - other).max()) / scale
        tolerance = 0.05 if "16" in self.model.compute_dtype else 1e-3
        if change > tolerance:
            text = f"a row's outputs change by {change:.2g} of their size with the other rows of its batch"
            advice = "a layer works across the rows of a batch: look for a wrong axis, or a reshape or transpose of the batch"
            yield Finding("batch mixing", "stop", text, advice, {"change": change})
        else:
            text = "a row's outputs do not depend on the other rows of its batch"
            yield Finding("batch mixing", "ok", text, numbers={"change": change})

    def one_batch(self) -> Iterator[Finding]:
        """Yield whether the model can learn one batch by heart, and which weights do not change meanwhile."""
        self.short.reset()
        x, y = self.short.rows(BATCH)
        before = self.short.weights()
        first = self.short.loss(x, y)
        # A model that has learned no more than the mean, or the shares, of its targets has learned no row by heart.
        constant = min(first, _constant_loss(_kind_of_loss(self.model, self.trainer), y, self.trainer))
        floor = _smoothing_loss(float(self.config.get("label_smoothing") or 0), self.trainer.data.info.classes)
        # The loss of regularizers stays.
        share = 0.9 if self.model.losses else 0.5
        steps = 0
        for more in (STEPS, (_MORE - 1) * STEPS):  # some models learn slowly
            self.short.train(x, y, more)
            steps += more
            last = self.short.loss(x, y)
            if is_learned := last <= floor + share * max(constant - floor, 0.0):
                break
        falls = "falls" if last < first else "goes"
        what = f"the loss of one batch of {len(keras.tree.flatten(y)[0])} rows"
        text = f"{what} {falls} from {first:.4g} to {last:.4g} in {steps} steps{self._at_rate}"
        numbers = {"first": first, "last": last}
        if is_learned:
            yield Finding("one batch", "ok", text, numbers=numbers)
        else:
            advice = "raise the model's size; look at the loss, at the inputs' scale, and at whether layers are frozen"
            yield Finding("one batch", "look", text, advice, numbers)
        yield _unchanged(self.model, before, self.short.weights())

    def inputs_matter(self) -> Iterator[Finding]:
        """Yield whether a training learns more from its inputs than from zeros in their place."""
        for steps in (STEPS, _MORE * STEPS):  # some models learn slowly
            real, zeros = self._losses_without_inputs(steps)
            # Normalizing zeros may give losses that are not finite: then the inputs matter, too.
            if is_less := math.isfinite(real) and not real >= zeros - 0.02 * abs(zeros):
                break
        text = f"training loss after {steps} steps{self._at_rate}: {real:.4g}, with zeros for inputs {zeros:.4g}"
        numbers = {"loss": real, "zeros": zeros}
        if is_less:
            yield Finding("inputs matter", "ok", text, numbers=numbers)
        else:
            advice = "the model does not use its inputs: see whether labels belong to their rows"
            yield Finding("inputs matter", "look", text, advice, numbers)

    def _losses_without_inputs(self, steps: int) -> tuple[float, float]:
        """Return the training loss after some steps, and the same with zeros for inputs."""
        x, y = self.short.rows(_ROWS)
        losses = []
        for inputs in (x, keras.tree.map_structure(np.zeros_like, x)):
            self.short.reset()
            self.short.train(inputs, y, steps)
            losses.append(self.short.loss(inputs, y))
        return losses[0], losses[1]

    @property
    def _at_rate(self) -> str:
        return "" if self.short.rate is None else f" at learning rate {self.short.rate:.2g}"

    def _first_output(self, x: Any) -> NDArray[Any]:
        """Return the first row's outputs, side by side."""
        outputs = keras.tree.flatten(self.short.predict(x))
        return np.concatenate([np.asarray(output[0], np.float32).reshape(-1) for output in outputs])


def _kind_of_loss(model: keras.Model, trainer: Trainer) -> str:
    """Return "crossentropy" or "squared error" where the loss is one of these alone, so that a constant's loss is known."""
    name = getattr(model.loss, "name", None) or getattr(model.loss, "__name__", None) or model.loss
    if trainer.data.info.targets or model.losses or not isinstance(name, str):
        return ""
    is_regression = trainer.data.info.task == "regression"
    if not is_regression and name in (
        "binary_crossentropy",
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
    ):
        return "crossentropy"
    return "squared error" if is_regression and name in ("mean_squared_error", "mse") else ""


def _constant_loss(kind: str, y: Any, trainer: Trainer) -> float:
    """Return the loss of the best constant prediction for these rows; infinite if it is not known."""
    if kind == "squared error":
        return float(np.asarray(y).reshape(len(y), -1).var(axis=0).mean())
    if kind == "crossentropy":
        shares = np.bincount(label_numbers(np.asarray(y)), minlength=trainer.data.info.classes) / len(y)
        return float(-(shares * np.log(np.maximum(shares, 1e-9))).sum())
    return math.inf


def _smoothing_loss(smoothing: float, classes: int) -> float:
    """Return the loss of a perfect prediction with label smoothing."""
    if not smoothing or not classes:
        return 0.0
    other = smoothing / classes
    true = 1 - smoothing + other
    return float(-true * math.log(true) - (classes - 1) * other * math.log(other)) if true > 0 else 0.0


def _start_of_numbers(loss: float, y: Any) -> Finding:
    rows = np.asarray(y).reshape(len(y), -1)
    variance = float(rows.var(axis=0).mean())
    text = f"{loss:.4g}; a constant prediction of the mean has {variance:.4g}, the targets' variance"
    numbers = {"loss": loss, "variance": variance}
    if loss > _FAR_FROM_MEAN * variance:
        mean = ", ".join(f"{value:.4g}" for value in rows.mean(axis=0)[:8])
        advice = (
            "subtract the targets' mean and divide by their standard deviation, or start the last layer at the mean: "
            f"bias_initializer = keras.initializers.Constant({f'[{mean}]' if rows.shape[1] > 1 else mean})"
        )
        return Finding("loss at start", "look", text, advice, numbers)
    return Finding("loss at start", "ok", text, numbers=numbers)


def _unchanged(model: keras.Model, before: list[NDArray[Any]], after: list[NDArray[Any]]) -> Finding:
    same = [
        variable.path
        for variable, old, new in zip(model.trainable_variables, before, after, strict=True)
        if np.array_equal(old, new)
    ]
    frozen = [layer.name for layer in model._flatten_layers() if layer.weights and not layer.trainable]
    numbers = {"unchanged": len(same), "of": len(before), "frozen": len(frozen)}
    if not before or len(same) == len(before):
        text = f"none of {len(before)} trainable weights changes in training"
        return Finding("gradients", "stop", text, "look at the loss, at trainable and at stop_gradient", numbers)
    if same:
        text = f"{len(same)} of {len(before)} weights do not change in training: {', '.join(same[:3])}"
        advice = "they get no gradient: see that their layer is on the way to the loss"
        return Finding("gradients", "look", text, advice, numbers)
    if frozen:
        text = f"all {len(before)} trainable weights change in training; frozen: {', '.join(frozen[:3])}"
        return Finding("gradients", "look", text, "set trainable = True if the layer is to learn", numbers)
    return Finding("gradients", "ok", f"all {len(before)} trainable weights change in training", numbers=numbers)
