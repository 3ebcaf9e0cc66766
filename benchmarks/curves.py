"""Recorded curves to search in: the LCBench surrogate, and curves in files. Nothing here trains."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LCBENCH = Path(__file__).resolve().parents[2] / "shared" / "data" / "lcbench"
# The tasks that searches were compared on while they were made, and those that were kept to check them.
TUNED = "126026 146212 167104 167149 167161 167185 168331 168868 189354 189865 189906 3945".split()
EPOCHS = 52
RANDOM_CONFIGS = 1_500

LCBENCH_SPACE: dict[str, Any] = {
    "batch_size": {"low": 16, "high": 512, "log": True},
    "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "momentum": {"low": 0.1, "high": 0.99},
    "weight_decay": {"low": 1e-5, "high": 0.1},
    "num_layers": {"low": 1, "high": 5},
    "max_units": {"low": 64, "high": 1024, "log": True},
    "max_dropout": {"low": 0.0, "high": 1.0},
}


class Task(Protocol):
    """Curves of one objective over a space.

    Attributes:
        best: the objective of the best of many random configs at the last epoch.
        median: that of their median.
    """

    name: str
    space: dict[str, Any]
    direction: str
    epochs: int
    best: float
    median: float

    def curve(self, config: Mapping[str, Any]) -> Sequence[float]:
        """Return the objective by epoch; shorter than `epochs` where training diverged."""


class LCBench:
    """One task of the LCBench surrogate of YAHPO Gym (Zimmer et al. 2021, Pfisterer et al. 2022): accuracy in percent."""

    space = LCBENCH_SPACE
    direction = "maximize"
    epochs = EPOCHS

    def __init__(self, name: str) -> None:
        self.name = name
        self._code = json.loads((LCBENCH / "encoding.json").read_text())["OpenML_task_id"][name]
        rng = np.random.default_rng(0)
        configs = [_drawn(self.space, rng) for _ in range(RANDOM_CONFIGS)]
        last = self._evaluate([[EPOCHS, *config.values()] for config in configs])
        self.best, self.median = float(last.max()), float(np.median(last))

    def curve(self, config: Mapping[str, Any]) -> Sequence[float]:
        """Return the accuracy in percent by epoch."""
        values = [config[name] for name in self.space]
        return [float(v) for v in self._evaluate([[epoch, *values] for epoch in range(1, EPOCHS + 1)])]

    def _evaluate(self, rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        numbers = np.array(rows, np.float32)
        codes = np.full((len(rows), 1), self._code, np.int32)
        found: NDArray[np.float32] = _surrogate().run(None, {"x_cat": codes, "x_cont": numbers})[0][:, 1]
        return found


@lru_cache(maxsize=1)
def _surrogate() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(LCBENCH / "model.onnx", options, providers=["CPUExecutionProvider"])


def lcbench_names() -> list[str]:
    """Return the names of all tasks of LCBench that the surrogate was made for."""
    space = json.loads((LCBENCH / "config_space.json").read_text())
    return list(next(p["choices"] for p in space["hyperparameters"] if p["name"] == "OpenML_task_id"))


def _drawn(space: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
    config: dict[str, float] = {}
    for name, parameter in space.items():
        low, high = parameter["low"], parameter["high"]
        share = rng.random()
        value = low * (high / low) ** share if parameter.get("log") else low + (high - low) * share
        config[name] = round(value) if isinstance(low, int) else value
    return config
