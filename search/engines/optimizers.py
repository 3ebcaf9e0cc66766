"""Optimizers as a study sets them, and the schedules of their learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from search.errors import UsageError
from search.spec.vocabulary import optimizer_arguments, optimizer_class


class Decay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A linear warm-up from 0 to the learning rate, then its decay towards `end_factor` times it.

    Steps count from 0, as in Keras's own schedules (`decay_steps` = `steps`): the first step has the full rate, the last the
    rate at (steps - 1) / steps of the decay. The decay ends after the last step.

    Args:
        kind: "constant", "cosine", "linear" or "exponential".
        steps: of the whole training.
        warmup: share of the steps in which the rate rises.
        end_factor: final rate / learning rate; above 0 for "exponential".

    Source: cosine without restarts, SGDR (Loshchilov & Hutter, 2017, arXiv:1608.03983); warm-up, Goyal et al. (2017).
    """

    lane_numbers = ("learning_rate", "steps", "warmup", "end_factor")

    def __init__(self, learning_rate: float, kind: str, steps: int, warmup: float, end_factor: float) -> None:
        super().__init__()
        self.learning_rate, self.kind, self.steps = learning_rate, kind, steps
        self.warmup, self.end_factor = warmup, end_factor

    def __call__(self, step: Any) -> Any:
        # Use keras.ops throughout: in a lane, each of the numbers may be an array.
        ops = keras.ops
        step = ops.cast(step, "float32")
        warmup_steps = self.warmup * self.steps
        share = ops.clip((step - warmup_steps) / ops.maximum(self.steps - warmup_steps, 1.0), 0.0, 1.0)
        if self.kind == "cosine":
            factor = self.end_factor + (1 - self.end_factor) * 0.5 * (1 + ops.cos(np.pi * share))
        elif self.kind == "linear":
            factor = 1 - (1 - self.end_factor) * share
        elif self.kind == "exponential":
            factor = ops.exp(share * ops.log(self.end_factor * ops.ones_like(share)))
        else:
            factor = ops.ones_like(share)
        return self.learning_rate * factor * ops.minimum(1.0, (step + 1) / ops.maximum(warmup_steps, 1.0))

    def get_config(self) -> dict[str, Any]:
        names = ("learning_rate", "kind", "steps", "warmup", "end_factor")
        return {name: getattr(self, name) for name in names}


def make_optimizer(config: Mapping[str, Any], steps: int) -> keras.optimizers.Optimizer:
    """Make the optimizer of a config, with the config's numbers that it takes and Keras's defaults for the rest.

    `steps` is the length of the whole training, for schedules. ValueError or TypeError if Keras rejects a number.
    """
    name = config["optimizer"]
    kind = getattr(keras.optimizers, optimizer_class(name))
    numbers = {key: config[key] for key in optimizer_arguments(name) if key in config}
    schedule, warmup = config.get("schedule", "constant"), config.get("warmup", 0.0)
    if schedule != "constant" or warmup:
        rate = numbers.get("learning_rate", float(np.asarray(kind().learning_rate)))
        end_factor = config.get("end_factor", 0.01 if schedule == "exponential" else 0.0)
        if schedule == "exponential" and not end_factor:
            raise UsageError("train.end_factor: an exponential schedule needs it above 0; received 0")
        numbers["learning_rate"] = Decay(rate, schedule, steps, warmup, end_factor)
    return kind(**numbers)
