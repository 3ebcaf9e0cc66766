"""An ensemble gives the average of its members' probabilities or values, in a file that Keras alone opens."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support import PROGRAMS, in_keras

from search.engines.devices import Device

pytestmark = [pytest.mark.slow, pytest.mark.gallery]

OPEN = PROGRAMS / "open_ensembles.py"


def hinge_of(margins, labels):
    """Return the mean hinge loss of margins of labels 0 and 1."""
    import numpy as np

    return float(np.maximum(1 - (2 * labels.ravel() - 1) * margins.ravel(), 0).mean())


def averages(names, folder):
    """Save ensembles of three configs with random weights; set the files' outputs against averages by NumPy."""
    from pathlib import Path

    import keras
    import numpy as np
    from export_kit import SOURCES, trainer_of
    from scipy.special import expit, softmax
    from support import ORIGIN

    from search.engines import ensembling, raw_rows
    from search.engines.checkpoints import Checkpoints
    from search.engines.protocol import EnsembleMember, SaveEnsemble
    from search.engines.training import weights_of
    from search.spec import model_file
    from search.trials.events import Member

    folder = Path(folder)
    (folder / "two.py").write_text(
        "import numpy as np, keras\n"
        "def load():\n"
        "    x = np.random.default_rng(0).normal(size=(80, 3))\n"
        "    return {'a': x[:, :2], 'b': x[:, 2]}, {'kind': np.arange(80) % 3, 'price': x.sum(axis=1)}\n"
        "def build(config, data):\n"
        "    inputs = {name: keras.Input(shape, dtype=kind, name=name) for name, (shape, kind) in data.inputs.items()}\n"
        "    x = keras.layers.Concatenate()(list(inputs.values()))\n"
        "    x = keras.layers.Dense(config['units'][0], activation='tanh', kernel_regularizer='l2')(x)\n"
        "    ends = {name: keras.layers.Dense(target.outputs, name=name)(x) for name, target in data.targets.items()}\n"
        "    return keras.Model(inputs, ends)\n"
    )
    own = {"build": "own.py:build"}
    cases = {
        "logits": (SOURCES["classes"], None, lambda y: softmax(y, axis=1)),
        "values": (SOURCES["numbers"], None, lambda y: y),
        "binary": (SOURCES["binary"], None, expit),
        "probabilities": (SOURCES["classes"], own, lambda y: y),
        "margins": (SOURCES["binary"], None, lambda y: y),
        "several": ({"source": str(folder / "two.py:load")}, {"build": str(folder / "two.py:build")}, None),
    }
    found = {}
    for name in names:
        section, model, squash = cases[name]
        trainer = trainer_of(section, model, **({"loss": "hinge"} if name == "margins" else {}))
        members, outputs = [], []
        for number, units in enumerate(([4], [8], [5, 3])):
            config = {"units": units, "optimizer": "adam", "batch_size": 32, "epochs": 3}
            made = trainer.model(config, number)
            arrays = dict(weights_of(made.trainable_variables, made.non_trainable_variables))
            weights = folder / f"{name}-{number}.npz"
            Checkpoints(None).keep(weights, {key: np.array(value) for key, value in arrays.items()}, {"trial": number})
            members.append(EnsembleMember(number, config, number, str(weights)))
            outputs.append(made.predict(trainer.data.x_validation, verbose=0))
        path = folder / f"{name}.keras"
        origin = {**ORIGIN, "kind": "ensemble", "trials": [0, 1, 2]}
        detail = ensembling.save(trainer, SaveEnsemble(Member(0), tuple(members), str(path), origin)).detail
        loaded, raw = keras.models.load_model(path), trainer.data.raw.x_validation
        given = raw_rows.staged(loaded, raw)[0].predict(raw, verbose=0)
        notes = model_file.read(path)
        if squash is not None:
            pairs = [(given, np.mean([squash(each) for each in outputs], axis=0))]
            np.savez(folder / f"{name}.npz", x=raw, y=trainer.data.y_validation)
        else:
            kinds = np.mean([softmax(each["kind"], axis=1) for each in outputs], axis=0)
            y = trainer.data.y_validation
            data_loss = -np.log(kinds[np.arange(len(kinds)), y["kind"].ravel()]).mean()
            errors = np.mean([each["price"] for each in outputs], axis=0).ravel() - y["price"].ravel()
            # Without the penalties of its members' weights.
            assert abs(detail["values"]["val_loss"] - data_loss - (errors**2).mean()) < 1e-4
            assert detail["lines"][-1].startswith("its loss has no penalties")
            pairs = [(given["kind"], kinds), (given["price"], np.mean([each["price"] for each in outputs], axis=0))]
        found[name] = {
            "apart": max(float(np.abs(one - other).max()) for one, other in pairs),
            "gives": {output.name: output.gives for output in notes.outputs},
            "values": detail["values"],
            "lines": [
                line for line in detail["lines"] if "left out" in line or "not compiled" in line or "differ" in line
            ],
            "average": pairs[0][1].tolist(),
            "hinge": hinge_of(pairs[0][1], trainer.data.y_validation) if name == "margins" else None,
        }
        keras.utils.clear_session()
    return found


def check(found):
    assert {name: case["apart"] for name, case in found.items() if case["apart"] > 1e-4} == {}
    assert {name: case["lines"] for name, case in found.items() if case["lines"]} == {}
    assert all("val_loss" in case["values"] for case in found.values())


def test_ensemble_averages_probabilities_of_logits(tmp_path):
    found = in_keras(averages, ["logits"], str(tmp_path), cwd=tmp_path)
    check(found)
    assert found["logits"]["gives"] == {"": "probabilities"}


def test_ensembles_of_every_task_open_with_keras_alone_and_give_the_averages(tmp_path):
    names = ["values", "binary", "probabilities", "several", "margins"]
    found = in_keras(averages, names, str(tmp_path), cwd=tmp_path)
    check(found)
    assert [case["gives"] for case in found.values()] == [
        {"": "values"}, {"": "probabilities"}, {"": "probabilities"}, {"kind": "probabilities", "price": "values"}, {"": "scores"},
    ]  # fmt: skip
    margins = found["margins"]
    assert margins["values"]["val_loss"] == pytest.approx(margins["hinge"], abs=1e-5)
    for backend in ("tensorflow", "jax"):
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        paths = [str(tmp_path / f"{name}.keras") for name in names[:3]]
        command = [sys.executable, "-I", OPEN, *paths]
        done = subprocess.run(command, env={**kept, **Device().environment(backend)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for name, seen in zip(names, json.loads(done.stdout.splitlines()[-1]).values(), strict=False):
            for one, other in zip(seen["predicted"], found[name]["average"], strict=True):
                assert one == pytest.approx(other, abs=1e-4)
            loss = found[name]["values"]["val_loss"]
            assert seen["values"]["loss"] == pytest.approx(loss, rel=1e-3)


def refusal(losses):
    """Average models whose outputs may be either, or of which each has a loss of its own; return what is said."""
    from pathlib import Path

    from export_kit import trainer_of

    from search.engines import orders
    from search.engines.checkpoints import Checkpoints
    from search.engines.protocol import EnsembleMember, SaveEnsemble
    from search.trials.events import Failed, Member

    Path("odd.py").write_text(
        "import keras\n"
        "class Odd(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return keras.ops.clip(x, 0.2, 0.7)\n"
        "def build(config, data):\n"
        "    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.outputs), Odd()])\n"
        "    model.compile('adam', 'mse')\n"
        "    return model\n"
        "def by_loss(config, data):\n"
        "    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.outputs)])\n"
        "    model.compile('adam', config['loss'])\n"
        "    return model\n"
    )
    trainer = trainer_of({"source": "sklearn:wine"}, {"build": f"odd.py:{'by_loss' if losses else 'build'}"})
    config = {"optimizer": "adam", "batch_size": 32, "epochs": 3}
    configs = [{**config, "loss": loss} for loss in losses] or [config] * 2
    config = configs[0]
    model = trainer.model(config, 0)
    import numpy as np

    from search.engines.training import weights_of

    named = weights_of(model.trainable_variables, model.non_trainable_variables)
    Checkpoints(None).keep(Path("w.npz"), {key: np.array(value) for key, value in named}, {"trial": 0})
    members = tuple(EnsembleMember(number, config, 0, "w.npz") for number, config in enumerate(configs))
    answer = orders.answer(trainer, SaveEnsemble(Member(0), members, "no.keras", {}))
    return [isinstance(answer, Failed), getattr(answer, "reason", "")]


def test_outputs_that_may_be_logits_or_probabilities_are_not_averaged(tmp_path):
    failed, reason = in_keras(refusal, [], cwd=tmp_path)
    assert (failed, "of trial 0 are not known to be probabilities or logits" in reason) == (True, True), reason


def test_scores_of_different_losses_are_not_averaged(tmp_path):
    """A margin of a hinge loss and a squared error's number near 0 or 1 have no mean that decides for a class."""
    failed, reason = in_keras(refusal, ["categorical_hinge", "mse"], cwd=tmp_path)
    assert (failed, "of trial 1 and of the best trial can't be averaged" in reason) == (True, True), reason
