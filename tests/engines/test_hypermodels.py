"""Hypermodels of KerasTuner's forms: the space that is found, and models and curves beside KerasTuner's own and plain Keras."""

from __future__ import annotations

import pytest
from support import BROUGHT, in_keras

RANGE_32_512 = {"low": 32, "high": 512, "step": 32}
FLAG = {"choices": [False, True]}
LOG_RATE = {"low": 1e-4, "high": 1e-2, "log": True}
KIND = {"choices": ["adam", "sgd", "rmsprop"]}
UNITS = {"low": 8, "high": 32, "step": 8}

SPACES = {
    "getting_started": {"units": RANGE_32_512},
    "tuned_depth": {
        "num_layers": {"low": 1, "high": 3},
        "units_0": UNITS,
        "activation": {"choices": ["relu", "tanh"]},
        "dropout": FLAG,
        "lr": LOG_RATE,
        "units_1": {**UNITS, "when": {"num_layers": [2, 3]}},
        "units_2": {**UNITS, "when": {"num_layers": [3]}},
    },
    "separate_search_space": {
        "units": RANGE_32_512,
        "activation": {"choices": ["relu", "tanh"]},
        "dropout": FLAG,
        "lr": LOG_RATE,
    },
    "chosen_optimizer": {
        "optimizer": KIND,
        "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
        "momentum": {"low": 0.0, "high": 0.9, "step": 0.3, "when": {"optimizer": ["sgd"]}},
    },
    "convolutional": {
        "conv_blocks": {"low": 1, "high": 2},
        "filters_0": {"choices": [4, 8, 16]},
        "kernel": {"choices": [3, 5]},
        "pooling_0": {"choices": ["avg", "max"]},
        "filters_1": {"choices": [4, 8, 16], "when": {"conv_blocks": [2]}},
        "pooling_1": {"choices": ["avg", "max"], "when": {"conv_blocks": [2]}},
    },
    "model_selection": {
        "model_type": {"choices": ["mlp", "cnn"]},
        "mlp_units": {"low": 16, "high": 64, "step": 16, "when": {"model_type": ["mlp"]}},
        "optimizer": {"choices": ["adam", "sgd"]},
        "filters": {"low": 4, "high": 12, "step": 4, "when": {"model_type": ["cnn"]}},
    },
    "augmented": {
        "augment": FLAG,
        "shift": {"low": 0.05, "high": 0.25, "when": {"augment": [True]}},
        "noise": {**FLAG, "when": {"augment": [True]}},
        "noise_level": {"low": 0.01, "high": 0.5, "log": True, "when": {"noise": [True]}},
    },
    "residual": {
        "width": {"choices": [16, 32]},
        "blocks": {"low": 1, "high": 3},
        "version": {"choices": ["plain", "residual"]},
        **{
            f"block_{i}_{name}": {**entry, **({"when": when} if when else {})}
            for i in range(3)
            for name, entry, when in (
                ("activation", {"choices": ["relu", "swish"]}, {"blocks": list(range(i + 1, 4))} if i else {}),
                ("normalize", FLAG, {"blocks": list(range(i + 1, 4))} if i else {}),
                ("momentum", {"low": 0.5, "high": 0.99}, {f"block_{i}_normalize": [True]}),
            )
        },
    },
    "failing": {"units": {"low": 16, "high": 256, "step": 48}, "layers": {"low": 1, "high": 4}},
    "ClassMlp": {
        "units": {"low": 8, "high": 64, "log": True},
        "act": {"choices": ["relu", "elu"]},
        "dropout": {"low": 0.0, "high": 0.5, "step": 0.25},
        "lr": {"choices": [1e-4, 1e-3, 1e-2, 1e-1]},
    },
    "TunedTraining": {
        "units": {"low": 8, "high": 64, "step": 8},
        "normalize": FLAG,
        "shuffle": FLAG,
        "batch_size": {"choices": [16, 64]},
    },
    "PassedOn": {"units": {"low": 8, "high": 16, "step": 8}, "epochs": {"low": 2, "high": 3}},
    "CustomLoop": {
        "units": {"choices": [8, 16, 32]},
        "batch_size": {"low": 32, "high": 128, "step": 32},
        "learning_rate": LOG_RATE,
    },
    "uncompiled": {"units": {"low": 8, "high": 16}, "momentum": {"low": 0.6, "high": 0.9}},
    "doubled": {"units": {"low": 8, "high": 16, "step": 4}},
    "twice_in_scopes": {
        "kind": {"choices": ["narrow", "wide"]},
        "units": {"low": 4, "high": 8, "when": {"kind": ["narrow"]}},
        "units__2": {"low": 100, "high": 120, "step": 10, "when": {"kind": ["wide"]}},
    },
}
SPACES["instance"], SPACES["OneNumber"] = SPACES["ClassMlp"], SPACES["CustomLoop"]
OBJECTIVES = {"CustomLoop": "my_metric", "OneNumber": "my_metric"}
EPOCHS = 2


def settings_of(name, space=None):
    from search.spec.settings import DataSection, ModelSection, Settings, StudySection

    objective = {"objective": OBJECTIVES[name], "direction": "minimize"} if name in OBJECTIVES else {}
    return Settings(
        study=StudySection(epochs=EPOCHS, **objective),
        data=DataSection(source="sklearn:digits", limit=200),
        model=ModelSection(build=f"hypermodels.py:{name}"),
        space=space or {},
    )


def spaces_of(names):
    from search.engines.hypermodels import finding

    spaces = {}
    for name in names:
        result = finding.find(settings_of(name), BROUGHT)
        spaces[name] = {"space": dict(result.space), "start": dict(result.start), "epochs": result.epochs}
    return spaces


@pytest.fixture(scope="module")
def spaces():
    return in_keras(spaces_of, list(SPACES), backend="tensorflow")


@pytest.mark.gallery
@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_the_space_of_a_hypermodel_is_found(spaces, name):
    assert spaces[name]["space"] == SPACES[name]
    assert list(spaces[name]["space"]) == list(SPACES[name]) or name == "residual"


@pytest.mark.gallery
@pytest.mark.slow
def test_the_start_config_has_the_defaults(spaces):
    assert spaces["chosen_optimizer"]["start"] == {"optimizer": "sgd", "learning_rate": 1e-2, "momentum": 0.0}
    assert spaces["ClassMlp"]["start"] == {"units": 8, "act": "elu", "dropout": 0.0, "lr": 1e-2}
    assert spaces["augmented"]["start"] == {"augment": True, "shift": 0.05, "noise": False}


def trained_beside_kerastuner(found):
    """Train one config of each hypermodel by the fit engine, and by the hypermodel with KerasTuner's own HyperParameters.

    Return by name: the layers' configs and optimizers of both, their curves, and what `hp` held.
    """
    import importlib
    import json

    import keras_tuner

    from search import data
    from search.engines.training import Trainer
    from spaces import Space

    loaded = data.load(settings_of("getting_started").data, BROUGHT, 0)
    both = {}
    for name, result in found.items():
        trainer = Trainer.load(settings_of(name, result["space"]), BROUGHT, loaded)
        hypermodel = getattr(importlib.import_module("hypermodels"), name)
        hypermodel = hypermodel() if isinstance(hypermodel, type) else hypermodel
        params = drawn(Space.parse(result["space"]), name)
        config = {"optimizer": "adam", "batch_size": 32, "epochs": EPOCHS, **params}
        ours = by_engine(trainer, config)
        model = trainer.model(config, seed=7)
        hp = trainer.hypermodel.hp_of(model)
        theirs = keras_tuner.HyperParameters()
        # What a hypermodel asks for in `fit` is not in the values of a model that was only built.
        values = {**(params if trainer.has_own_fit else {}), **hp.values}
        theirs.values = dict(values)
        described = description(model)
        model = made_plainly(hypermodel, theirs)
        plain = [description(model), by_hand(hypermodel, theirs, model, loaded, config)]
        both[name] = {
            "described": [described, plain[0]], "curves": [ours, plain[1]], "values": [hp.values, params],
            "is_theirs": isinstance(hp, keras_tuner.HyperParameters), "redefined": [theirs.values, values],
        }  # fmt: skip
    return json.loads(json.dumps(both, default=float))


def drawn(space, name):
    import random

    dice = random.Random(name)
    while True:
        params = {}
        for key, parameter in space.items():
            if space.is_active(key, params):
                params[key] = dice.choice(parameter.values(5))
        if name != "failing" or params["units"] < 100:
            return params


def by_engine(trainer, config):
    """Return the metrics of each epoch of a training by the fit engine."""
    from search.engines.fit import FitEngine
    from search.trials.events import Assignment, EpochEnd, Member, Verdict

    engine = FitEngine(trainer)
    engine.start(Assignment(Member(0), config, config["epochs"], seed=7))
    metrics = []
    while True:
        (event,) = engine.advance()
        if not isinstance(event, EpochEnd):
            assert metrics, event
            engine.apply([Verdict(Member(0), ends=True)])
            return metrics
        metrics.append(event.metrics)
        engine.apply([Verdict(Member(0), ends=event.epoch == config["epochs"])])
        if event.epoch == config["epochs"]:
            return metrics


def made_plainly(hypermodel, hp):
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    model = (hypermodel.build if hasattr(hypermodel, "build") else hypermodel)(hp)
    if not model.built:
        model.build((None, 64))
    if not model.compiled:
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def by_hand(hypermodel, hp, model, loaded, config):
    """Return the metrics of each epoch of a training by Keras alone, or by the hypermodel's own `fit`."""
    import keras

    from search.engines.batches import shuffled

    validation, curve = (loaded.x_validation, loaded.y_validation), []
    if any("fit" in vars(base) for base in type(hypermodel).__mro__ if base.__module__ == "hypermodels"):
        seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: curve.append(dict(logs)))
        given = {"verbose": 0, "callbacks": [seen]}
        if type(hypermodel).__name__ != "PassedOn":
            given["epochs"] = config["epochs"]
        value = hypermodel.fit(hp, model, loaded.x_train, loaded.y_train, validation_data=validation, **given)
        return curve or [{"my_metric": value}]
    for epoch in range(1, config["epochs"] + 1):
        order = shuffled(loaded.info.train_rows, 7, epoch)
        for start in range(0, len(order), config["batch_size"]):
            rows = order[start : start + config["batch_size"]]
            model.train_on_batch(loaded.x_train[rows], loaded.y_train[rows])
        evaluated = model.evaluate(*validation, verbose=0, return_dict=True, batch_size=256)
        curve.append({f"val_{key}": value for key, value in evaluated.items()})
    return curve


def description(model):
    """Return the configs of a model's layers and of its optimizer."""
    import json

    import numpy as np

    config = model.optimizer.get_config()
    rounded = {key: float(np.float32(value)) if isinstance(value, float) else value for key, value in config.items()}
    return [json.dumps(model.get_config(), sort_keys=True, default=str), rounded]


@pytest.fixture(scope="module")
def beside(spaces):
    return in_keras(trained_beside_kerastuner, spaces, backend="tensorflow")


@pytest.mark.gallery
@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_a_trial_is_what_the_hypermodel_makes_with_kerastuners_own_values(beside, name):
    trial = beside[name]
    assert trial["is_theirs"]
    theirs, values = trial["redefined"]
    assert theirs == values, "KerasTuner has other values after it has run the builder"
    ours, plain = trial["described"]
    assert ours == plain
    ours, plain = trial["curves"]
    metric = OBJECTIVES.get(name, "val_loss")
    assert len(ours) == len(plain) > 0
    assert [row[metric] for row in ours] == pytest.approx([row[metric] for row in plain], rel=1e-5)


@pytest.mark.gallery
@pytest.mark.slow
def test_values_reach_the_builder_under_its_own_names(beside):
    values, params = beside["residual"]["values"]
    assert {name.replace("/", "_"): value for name, value in values.items()} == params
    values, params = beside["twice_in_scopes"]["values"]
    assert values["units"] == params.get("units", params.get("units__2"))
