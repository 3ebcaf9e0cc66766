"""What is wrong with a model for every trial is told before the first."""

from __future__ import annotations

import pytest
from support import in_jax

pytestmark = pytest.mark.slow


def what_is_said_of_each():
    from brought import counted
    from lanes_kit import trainer_of

    from search.engines import preflight
    from search.errors import UsageError
    from search.spec.settings import ModelSection, StudySection

    said = {}
    for name in ("outputs", "outputs_by_name", "compiled", "inputs", "stepping"):
        model = ModelSection(build=f"{counted.__file__}:{name}")
        mine = trainer_of(
            "sklearn:diabetes",
            model=model,
            study=StudySection(objective="val_loss"),
            space={"learning_rate": [0.1, 0.2]},
        )
        fixed = {"optimizer": "sgd", "batch_size": 32, "epochs": 1}
        try:
            said[name] = preflight.inspect(mine, fixed).model["parameters"]
        except UsageError as error:
            said[name] = str(error)
    return said


def test_several_inputs_or_outputs_are_counted_for_who_has_one_array_of_each():
    said = in_jax(what_is_said_of_each)
    assert said.pop("stepping") == 22
    assert said.pop("inputs").startswith("model.build: the model has 2 inputs, (None, 10), (None, 3), and x is 1 array")
    outputs = "model.build: the model has 2 outputs, (None, 1), (None, 2), and y is 1 array"
    assert all(line.startswith(outputs) for line in said.values()), said


def what_is_said_of_shapes(path):
    from pathlib import Path

    from lanes_kit import trainer_of

    from search.engines import preflight
    from search.engines.hypermodels import stand_in
    from search.errors import UsageError
    from search.spec.settings import ModelSection

    stand_in.offer()
    Path(path).write_text(
        "import keras\nimport keras_tuner\nfrom keras import layers\n"
        "def wide(config, data):\n    return keras.Sequential([keras.Input((63,)), layers.Dense(10)])\n"
        "def picture(config, data):\n    return keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(10)])\n"
        "def column(config, data):\n"
        "    return keras.Sequential([keras.Input((64, 1)), layers.LSTM(2), layers.Dense(10)])\n"
        "def any(config, data):\n    return keras.Sequential([keras.Input((None,)), layers.Reshape((64,)), layers.Dense(10)])\n"
        "class Fits(keras_tuner.HyperModel):\n"
        "    def build(self, hp):\n        return picture({}, None)\n"
        "    def fit(self, hp, model, x, y, **kwargs):\n        return model.fit(x.reshape(-1, 8, 8), y, **kwargs)\n"
    )
    said = {}
    for name in ("wide", "picture", "column", "any", "Fits"):
        mine = trainer_of("sklearn:digits", model=ModelSection(build=f"{path}:{name}"))
        try:
            preflight.inspect(mine, {"optimizer": "sgd", "batch_size": 32, "epochs": 1})
            said[name] = ""
        except UsageError as error:
            said[name] = str(error)
    return said


def test_a_model_for_rows_of_another_shape_is_refused_with_both_shapes(tmp_path):
    said = in_jax(what_is_said_of_shapes, str(tmp_path / "shapes.py"))
    assert said["wide"].startswith(
        "model.build: the model takes rows of the shape (63,), and those of the data have (64,)"
    )
    assert said["picture"].startswith(
        "model.build: the model takes rows of the shape (8, 8), and those of the data have (64,)"
    )
    assert (said["column"], said["any"]) == ("", "")
    assert said["Fits"] == ""  # its own fit may give the model other rows


def what_is_said_of_trials():
    from brought import not_finite
    from lanes_kit import trainer_of
    from support import training

    from search.engines.fit import FitEngine
    from search.spec.settings import ModelSection
    from search.trials.events import Failed, Verdict

    trainer = trainer_of("sklearn:iris", model=ModelSection(build=f"{not_finite.__file__}:build"))
    said = {}
    for number, kind in enumerate(
        ("outputs", "outputs by name", "compiled", "inputs", "one of two", "nan", "inf", "one nan")
    ):
        engine = FitEngine(trainer)
        engine.start(training(number, kind=kind, optimizer="sgd", batch_size=32, epochs=99))
        (event,) = engine.advance()
        said[kind] = event.reason if isinstance(event, Failed) else ""
        engine.apply([Verdict(event.member, ends=True)])
    return said


def test_fault_in_the_model_of_any_trial_is_named_as_in_the_first():
    """The samples: "tuple arity mismatch; expected: 2, got: 1", and that NaN may be probabilities or logits."""
    said = in_jax(what_is_said_of_trials)
    assert said.pop("one of two") == "", "it trains"
    for kind in ("nan", "inf", "one nan"):
        assert said.pop(kind).startswith("UsageError: model.build: the untrained model's outputs are not finite")
    inputs = "UsageError: model.build: the model has 2 inputs, (None, 4), (None, 3), and x is 1 array; let the data"
    assert said.pop("inputs").startswith(inputs)
    outputs = "UsageError: model.build: the model has 2 outputs, (None, 3), (None, 3), and y is 1 array; let the data"
    assert len(said) == 3
    assert all(line.startswith(outputs) for line in said.values()), said
