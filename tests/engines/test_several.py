"""Several inputs and outputs, and weights of rows: lanes and fit train them as plain Keras does, and exports evaluate to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support import PROGRAMS, in_keras

from search.engines.devices import Device

pytestmark = pytest.mark.slow

LOSSES = {"price": "mse", "sold": "binary_crossentropy", "kind": "SparseCategoricalCrossentropy"}
# name -> (data function, builder, [train] of the study)
CASES: dict[str, tuple[str, str, dict]] = {
    "by name, with losses, metrics and weights": (
        "named",
        "by_name",
        {
            "loss": LOSSES,
            "metrics": {"price": ["mae"], "sold": ["auc", "accuracy"], "kind": ["accuracy"]},
            "loss_weights": {"price": 0.5, "sold": 2.0},
        },
    ),
    "by the tasks": ("named", "by_name", {}),
    "layers with names, in another order": ("by_names", "by_layer", {}),
    "weights by output": ("weighted_outputs", "by_name", {}),
    "in order": ("in_order", "by_order", {}),
    "one input": ("two_targets", "from_one", {"metrics": {"sold": ["accuracy"]}}),
    "weights of rows": ("weighted", "single", {}),
    "a table and texts": ("table_and_texts", "of_table_and_texts", {"metrics": ["mae"]}),
}


A_FEW = ["by name, with losses, metrics and weights", "in order", "weights of rows"]
THE_REST = [name for name in CASES if name not in A_FEW]
# A file over a table takes its columns as they are, not what encodes them: test_texts opens one with such columns.
WITHOUT_TABLES = [name for name in THE_REST if name != "a table and texts"]
GROUPS = [pytest.param(A_FEW, id="a few"), pytest.param(THE_REST, id="the rest", marks=pytest.mark.gallery)]


def curves_of(cases):
    """Return the curves of each case in lanes, by fit and by plain Keras."""
    import keras
    from brought import several
    from lanes_kit import Assignment, Member, Verdict, data, engine_of, train

    from search.engines.batches import Batches, Clock
    from search.engines.fit import FitEngine
    from search.engines.training import Trainer
    from search.spec.settings import DataSection, ModelSection, Settings, TrainSection

    config = {"optimizer": "adam", "learning_rate": 0.03, "batch_size": 16, "epochs": 3}

    def by_engine(engine, one):
        engine.start(one)
        curve = []
        while len(curve) < one.epochs:
            (event,) = engine.advance()
            curve.append(dict(event.metrics))
            engine.apply([Verdict(event.member, ends=len(curve) == one.epochs)])
        return curve

    found = {}
    for name, (source, builder, section) in cases.items():
        settings = Settings(
            data=DataSection(source=f"{several.__file__}:{source}"),
            model=ModelSection(build=f"{several.__file__}:{builder}"),
            train=TrainSection(**section),
        )
        folder = __import__("pathlib").Path()
        trainer = Trainer.load(settings, folder, data.load(settings.data, folder, 0))
        given = [
            Assignment(Member(number), {**config, "learning_rate": rate}, 3, 7)
            for number, rate in enumerate((0.03, 0.01))
        ]
        lanes = train(engine_of(2, 2, trainer), given)
        fit = {}
        for one in given:
            fit[one.member.trial] = by_engine(FitEngine(trainer), one)

        # Plain Keras: the same rows in the same order, compiled with Keras's own words.
        loaded, plain = trainer.data, []
        for one in given:
            keras.utils.clear_session()
            keras.utils.set_random_seed(7)
            model = getattr(several, builder)({}, loaded.info)
            model.compile(keras.optimizers.Adam(one.config["learning_rate"]), **KERAS[name]())
            batches = Batches(trainer.arrays(), 16, 7)
            history = model.fit(
                batches,
                epochs=3,
                shuffle=False,
                verbose=0,
                callbacks=[Clock(batches)],
                validation_data=trainer.validation(),
                validation_batch_size=256,
            ).history
            plain.append([{key: float(values[epoch]) for key, values in history.items()} for epoch in range(3)])
        found[name] = [lanes, fit, plain]
    return found


def _by_name():
    import keras

    return {
        "loss": {
            "price": "mse",
            "sold": "binary_crossentropy",
            "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        },
        "metrics": {
            "price": ["mae"],
            "sold": [keras.metrics.AUC(name="auc"), "accuracy"],
            "kind": ["accuracy"],
        },
    }


KERAS = {
    "by name, with losses, metrics and weights": lambda: {
        **_by_name(),
        "loss_weights": {"price": 0.5, "sold": 2.0, "kind": 1.0},
    },
    "by the tasks": lambda: {**_by_name(), "metrics": {"price": ["mae"], "sold": ["accuracy"], "kind": ["accuracy"]}},
    "layers with names, in another order": lambda: {
        "loss": ["binary_crossentropy", "mse"],
        "metrics": [["accuracy"], ["mae"]],
    },
    "weights by output": lambda: {
        "loss": {"price": "mse", "sold": "binary_crossentropy"},
        "metrics": {"price": ["mae"], "sold": ["accuracy"]},
    },
    "in order": lambda: {"loss": ["mse", "binary_crossentropy"], "metrics": [["mae"], ["accuracy"]]},
    "one input": lambda: {
        "loss": {"price": "mse", "sold": "binary_crossentropy"},
        "metrics": {"sold": ["accuracy"]},
    },
    "weights of rows": lambda: {"loss": "mse", "metrics": ["mae"]},
    "a table and texts": lambda: {"loss": "mse", "metrics": ["mae"]},
}


@pytest.mark.parametrize("names", GROUPS)
def test_lanes_and_fit_train_as_plain_keras(names):
    curves = in_keras(curves_of, {name: CASES[name] for name in names})
    assert list(curves) == names
    for name, (lanes, fit, plain) in curves.items():
        for trial, expected in enumerate(plain):
            for epoch, metrics in enumerate(expected):
                for given in (lanes[str(trial)][epoch], fit[str(trial)][epoch]):
                    assert set(metrics) <= set(given)
                    for metric, value in metrics.items():
                        where = (name, trial, epoch, metric)
                        assert given[metric] == pytest.approx(value, abs=1e-5, rel=1e-5), where
        # They do learn, and their rates make them different.
        assert plain[0][0] != plain[0][2] != plain[1][2], name


def refusals():
    from brought import several
    from lanes_kit import data

    from search.engines import preflight
    from search.engines.training import Trainer
    from search.errors import ManyfitError
    from search.spec.settings import DataSection, ModelSection, Settings, StudySection, TrainSection

    folder = __import__("pathlib").Path()

    def said(source, builder, objective="val_loss", **train):
        settings = Settings(
            study=StudySection(objective=objective),
            data=DataSection(source=f"{several.__file__}:{source}"),
            model=ModelSection(build=f"{several.__file__}:{builder}"),
            train=TrainSection(**train),
        )
        try:
            trainer = Trainer.load(settings, folder, data.load(settings.data, folder, 0))
            preflight.inspect(trainer, {"optimizer": "adam", "batch_size": 16, "epochs": 2})
        except ManyfitError as error:
            return str(error)
        return ""

    return {
        "own": said("weighted_outputs", "own"),
        "direction": said(
            "accounts", "of_accounts", "val_account_falsepositives", metrics={"account": ["FalsePositives"]}
        ),
        "misnamed": said("weighted_outputs", "misnamed"),
        "unnamed": said("by_names", "unnamed_layers"),
        "weights for a list": said("weighted_outputs", "by_layer"),
        "inputs": said("weighted_outputs", "other_inputs"),
        "one output": said("two_targets", "single"),
        "tuple for names": said("in_order", "by_names_of_its_own"),
        "names for one": said("weighted", "single", loss={"price": "mse", "sold": "mse"}),
        "unknown output": said("weighted_outputs", "by_name", metrics={"solds": ["auc"]}),
        "missing loss": said("weighted_outputs", "by_name", loss={"price": "mse"}),
        "class weights": said("weighted_outputs", "by_name", class_weight="balanced"),
        "halves": said("large_ids", "of_reals"),
        "task": said("weighted_outputs", "by_name", loss="SparseCategoricalCrossentropy"),
    }


def test_what_does_not_pair_is_refused_by_name():
    said = in_keras(refusals, backend="jax")
    assert said["own"] == ""
    # An account is no accuracy: its name implies nothing, and a study file is asked for the direction.
    assert said["direction"] == ""
    for case, words in {
        "misnamed": ("gives a dictionary of cost, sold", "y is a dictionary of price, sold"),
        "unnamed": ("gives 2 arrays", "y is a dictionary of price, sold", "name its outputs"),
        "weights for a list": ("weights of rows by output", "a dictionary"),
        "inputs": ("takes a dictionary of words, size", "x is a dictionary of ids, size"),
        "one output": ("the model gives one array", "y is a dictionary of price, sold"),
        "tuple for names": ("a dictionary", "a tuple of 2 arrays"),
        "names for one": ("train.loss", "no output 'price'", "one output, without a name"),
        "unknown output": ("train.metrics", "no output 'solds'", "did you mean 'sold'"),
        "missing loss": ("train.loss", "none of the output 'sold'"),
        "class weights": ("train.class_weight", "several outputs"),
        "halves": ("ids: features", "from 5000 to 5029", "float16"),
        "task": ("train.loss", "regression"),
    }.items():
        assert all(word in said[case] for word in words), (case, said[case])


def exports_of(folder, cases):
    from pathlib import Path

    import numpy as np
    from brought import several
    from lanes_kit import data, weights_kept
    from support import ORIGIN

    from search.engines import exporting
    from search.engines.protocol import SaveModel
    from search.engines.training import Trainer
    from search.spec.settings import DataSection, ModelSection, Settings, TrainSection
    from search.trials.events import Member

    told = {}
    for number, (name, (source, builder, section)) in enumerate(cases.items()):
        settings = Settings(
            data=DataSection(source=f"{several.__file__}:{source}"),
            model=ModelSection(build=f"{several.__file__}:{builder}"),
            train=TrainSection(**section),
        )
        trainer = Trainer.load(settings, Path(), data.load(settings.data, Path(), 0))
        config = {"optimizer": "adam", "learning_rate": 0.03, "batch_size": 16, "epochs": 1}
        path = Path(folder) / f"{number}.keras"
        weights = weights_kept(trainer, config, Path(folder) / f"{number}.weights.npz")
        detail = exporting.save(trainer, SaveModel(Member(0), config, 7, str(weights), str(path), ORIGIN)).detail
        flat = {}
        for letter, tree in zip("xyw", trainer.validation(), strict=False):
            for key, array in (
                tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, tuple) else [("", tree)]
            ):
                flat[f"{letter}/{key}"] = array
        np.savez(Path(folder) / f"{number}.npz", **flat)
        told[str(path)] = {"name": name, **detail}
    return told


OPEN = PROGRAMS / "open_several.py"


def environment(backend: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **Device().environment(backend)}


@pytest.mark.gallery
@pytest.mark.parametrize("backend", ["jax", pytest.param("tensorflow", marks=pytest.mark.gallery)])
@pytest.mark.parametrize("names", [GROUPS[0], pytest.param(WITHOUT_TABLES, id="the rest")])
def test_exported_file_gives_the_studys_values_with_keras_alone(tmp_path, names, backend):
    told = in_keras(exports_of, str(tmp_path), {name: CASES[name] for name in names}, backend="jax")
    done = subprocess.run(
        [sys.executable, "-I", OPEN, *told], env=environment(backend), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    for path, values in json.loads(done.stdout.splitlines()[-1]).items():
        case = told[path]
        assert {f"val_{name}" for name in values} == set(case["evaluated"]), (case["name"], case["lines"])
        for name, value in values.items():
            assert value == pytest.approx(case["evaluated"][f"val_{name}"], rel=1e-5, abs=1e-6), (case["name"], name)
