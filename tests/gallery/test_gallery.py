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
# For every run of the tests.
SAMPLE = "own/state_that_evaluation_changes"


# Compiling is most of the work, and what is compared does not depend on how hard the compiler tries.
QUICK = "--xla_backend_optimization_level=0"


def result(script: str, *arguments: str, backend: str, given: str = "") -> dict[str, Any]:
    """Run a file of the gallery in a process of its own; what it prints last is JSON."""
    paths = [str(HERE), str(HERE.parent), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, **Device().environment(backend), "PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": QUICK}
    command = [sys.executable, "-P", str(HERE / script), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, input=given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def compared(*wanted: str, backend: str = "jax") -> dict[str, Any]:
    """Train models in all ways; return what each came to."""
    return result("run.py", *wanted, backend=backend)


def problems(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: came["problems"] for name, came in found.items() if came["problems"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_trains_alike_in_lanes_by_fit_and_by_plain_keras():
    assert problems(compared(SAMPLE)) == {}


class Group:
    """A group of models: the file `models_GROUP.py`. A class each, so that groups run side by side."""

    group = ""

    @pytest.mark.gallery
    @pytest.mark.timeout(3600)
    def test_models_train_alike_in_lanes_by_fit_and_by_plain_keras(self):
        assert problems(compared(self.group)) == {}


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
    """By fit alone: lanes are JAX's. What fit hands over differs there: tensors of a pipeline, not arrays."""

    models = (
        "tensorflow",
        "steps",
        "recurrent/lstm_with_dropout",
        "layers/siamese",
        "own/noise_in_evaluation_too",
        "own/variational_autoencoder",
        "own/state_that_evaluation_changes",
        "own/own_compute_metrics",
        "own/own_loss_and_metric",
        "own/own_metric_function",
        "own/one_hot_labels",
    )

    @pytest.mark.gallery
    @pytest.mark.timeout(3600)
    def test_models_train_alike_by_fit_and_by_plain_keras(self):
        assert problems(compared(*self.models, backend="tensorflow")) == {}


class TestExported:
    """Files that `manyfit export --model` writes, opened by Keras and the users' own files."""

    @pytest.mark.gallery
    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize("backend", ["jax", "tensorflow"])
    def test_models_give_their_values_in_a_process_that_has_keras_alone(self, backend, tmp_path):
        groups = [cls.group for cls in Group.__subclasses__()] + ["tensorflow"] * (backend == "tensorflow")
        exported = result("exported.py", str(tmp_path), *groups, backend=backend)
        found = result("opened.py", backend=backend, given=json.dumps(exported))
        assert found["wrong"] == {}
        assert found["ours"] == []
        assert found["opened"] == len(exported) >= 80


@pytest.mark.gallery
def test_every_file_of_models_is_compared():
    groups = {path.stem.removeprefix("models_") for path in HERE.glob("models_*.py")}
    assert groups == {cls.group for cls in Group.__subclasses__()} | {"tensorflow"}
