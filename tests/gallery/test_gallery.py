"""Models of the kinds in Keras's examples: lanes, the fit engine and plain Keras give the same curves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.engines.devices import Device

HERE = Path(__file__).resolve().parent
# A few of every file, for every run of the tests.
HANDFUL = (
    "recurrent/lstm_with_dropout",
    "attention/transformer_block",
    "layers/residual",
    "layers/siamese",
    "own/noise_in_evaluation_too",
    "own/own_loss_and_metric",
    "own/loss_out_of_a_table",
    "own/layer_class_inside_the_builder",
    "own/own_metric_function",
)


def compared(*wanted: str, backend: str = "jax", flags: str = "") -> dict[str, dict[str, Any]]:
    """Train models of the gallery in a process of their own; return what each came to."""
    paths = [str(HERE), str(HERE.parent), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, **Device().environment(backend), "PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-P", str(HERE / "run.py"), *wanted], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def problems(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: came["problems"] for name, came in found.items() if came["problems"]}


@pytest.mark.slow
def test_a_handful_of_models_train_alike_in_lanes_by_fit_and_by_plain_keras():
    assert problems(compared(*HANDFUL)) == {}


class Group:
    """A group of models: the file `models_GROUP.py`. A class each, so that groups run side by side."""

    group = ""

    @pytest.mark.gallery
    @pytest.mark.timeout(3600)
    def test_models_train_alike_in_lanes_by_fit_and_by_plain_keras(self):
        # Compiling is most of the work, and what is compared does not depend on how hard the compiler tries.
        found = compared(self.group, flags="--xla_backend_optimization_level=0")
        assert problems(found) == {}


class TestRecurrent(Group):
    group = "recurrent"


class TestAttention(Group):
    group = "attention"


class TestLayers(Group):
    group = "layers"


class TestOwn(Group):
    group = "own"


class TestSteps(Group):
    group = "steps"


class TestWalks(Group):
    group = "walks"


class TestTensorFlow:
    """By fit alone: lanes are JAX's."""

    @pytest.mark.gallery
    @pytest.mark.timeout(3600)
    def test_models_train_alike_by_fit_and_by_plain_keras(self):
        found = compared(
            "own", "steps", "recurrent/lstm_with_dropout", "layers/siamese", "layers/turns", backend="tensorflow"
        )
        assert problems(found) == {}


@pytest.mark.gallery
def test_every_file_of_models_is_compared():
    groups = {path.stem.removeprefix("models_") for path in HERE.glob("models_*.py")}
    assert groups == {cls.group for cls in Group.__subclasses__()}
