"""The work of the contestants, defined once for all: data, network, training, space. Imports nothing heavy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.data import DataInfo

EPOCHS = 20
SEED = 0
OBJECTIVE = "val_accuracy"
# name -> (low, high, log)
SPACE: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (1e-4, 1e-1, True),
    "dropout": (0.0, 0.5, False),
    "weight_decay": (1e-6, 1e-2, True),
}


@dataclass(frozen=True, slots=True)
class Work:
    """One training task, the same for all contestants: AdamW, `SPACE` drawn at random, no pruning, no early stopping.

    Attributes:
        title: its name in tables.
        source: of the data, as in a study file; a file's path is absolute.
        build: one of manyfit's own builders; `arguments` are its arguments.
        choices: name -> values, drawn in addition to `SPACE`; a `batch_size` here replaces the fixed one.
        limit: the most rows to use, for a quick run.
    """

    title: str
    source: str = "sklearn:digits"
    build: str = "mlp"
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"units": [128, 128]})
    batch_size: int = 32
    epochs: int = EPOCHS
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    limit: int | None = None

    @property
    def description(self) -> str:
        """A short description of the network and its training."""
        arguments = ", ".join(f"{name} {value}" for name, value in self.arguments.items())
        fixed = [] if "batch_size" in self.choices else [f"batch {self.batch_size}"]
        drawn = [f"{name} in {json.dumps(list(values))}" for name, values in self.choices.items()]
        return ", ".join([f"{self.build} with {arguments}", "AdamW", *fixed, f"{self.epochs} epochs", *drawn])

    def batch_size_of(self, config: Mapping[str, Any]) -> int:
        """Return a config's batch size, drawn or fixed."""
        return int(config.get("batch_size", self.batch_size))


DIGITS = Work("digits")


def study_text(work: Work, trials: int, *, sampler: str = "random", pruner: str = "none") -> str:
    """Return the work as the text of a manyfit study file."""
    space = [
        f"{name} = {{ low = {low}, high = {high}, log = {json.dumps(log)} }}"
        for name, (low, high, log) in SPACE.items()
    ]
    space += [f"{name} = {json.dumps(list(values))}" for name, values in work.choices.items()]
    return "\n".join(
        [
            "[study]",
            f'objective = "{OBJECTIVE}"',
            f"trials = {trials}",
            f"epochs = {work.epochs}",
            f"seed = {SEED}",
            "[data]",
            f"source = {json.dumps(work.source)}",
            *([] if work.limit is None else [f"limit = {work.limit}"]),
            "[model]",
            f'build = "{work.build}"',
            *(f"{name} = {json.dumps(value)}" for name, value in work.arguments.items()),
            "[train]",
            'optimizer = "adamw"',
            *([] if "batch_size" in work.choices else [f"batch_size = {work.batch_size}"]),
            "[space]",
            *space,
            "[search]",
            f'sampler = "{sampler}"',
            f'pruner = "{pruner}"',
            "",
        ]
    )


def multiply_adds(work: Work, info: DataInfo) -> int:
    """Count the multiply-adds of one row in the dense and convolutional layers of our builders; nothing else is counted."""
    count, inputs = 0, math.prod(info.input_shape)
    if work.build == "cnn":
        # The builder's defaults: 3 x 3 kernels, padded images, height and width halved after every block.
        height, width, channels = (*info.input_shape, 1)[:3]
        for filters in work.arguments["filters"]:
            count += height * width * 9 * channels * filters
            height, width, channels = height // 2, width // 2, filters
        inputs = height * width * channels
    units = work.arguments["units"]
    for outputs in [*(units if isinstance(units, list) else [units]), info.outputs]:
        count += inputs * outputs
        inputs = outputs
    return count
