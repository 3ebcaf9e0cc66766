"""What is wrong with a model for every trial is told before the first."""

from __future__ import annotations

import pytest
from support import in_jax

pytestmark = pytest.mark.slow

MODELS = """
import keras
from keras import Input, Model
from keras.layers import Concatenate, Dense


def outputs(config, data):
    x = Input(data.input_shape)
    return Model(x, [Dense(1)(x), Dense(2)(x)])


def outputs_by_name(config, data):
    x = Input(data.input_shape)
    return Model(x, {"one": Dense(1, name="one")(x), "two": Dense(2, name="two")(x)})


def compiled(config, data):
    model = outputs(config, data)
    model.compile("sgd", ["mse", "mse"])
    return model


def inputs(config, data):
    x, more = Input(data.input_shape), Input((3,))
    return Model([x, more], Dense(1)(Concatenate()([x, more])))


class Stepping(Model):
    def train_step(self, state, data):
        logs, state = super().train_step(state, (data[0], [data[1], data[1]]))
        return logs, state

    def test_step(self, state, data):
        return super().test_step(state, (data[0], [data[1], data[1]]))


def stepping(config, data):
    x = Input(data.input_shape)
    model = Stepping(x, [Dense(1)(x), Dense(1)(x)])
    model.compile("sgd", ["mse", "mse"])
    return model
"""


def test_several_inputs_or_outputs_are_counted_for_who_has_one_array_of_each(tmp_path):
    (tmp_path / "mine.py").write_text(MODELS)
    said = in_jax(f"""
from search.engines import preflight
from search.errors import UsageError
from search.spec.settings import ModelSection, StudySection

said = {{}}
for name in ("outputs", "outputs_by_name", "compiled", "inputs", "stepping"):
    model = ModelSection(build=f"{tmp_path}/mine.py:{{name}}")
    mine = trainer_of("sklearn:diabetes", model=model, study=StudySection(objective="val_loss"), space={{"learning_rate": [0.1, 0.2]}})
    fixed = {{"optimizer": "sgd", "batch_size": 32, "epochs": 1}}
    try:
        said[name] = preflight.inspect(mine, fixed).model["parameters"]
    except UsageError as error:
        said[name] = str(error)
print(json.dumps(said))
""")
    assert said.pop("stepping") == 22
    assert said.pop("inputs").startswith("model.build: the model has 2 inputs, (None, 10), (None, 3), and x is 1 array")
    outputs = "model.build: the model has 2 outputs, (None, 1), (None, 2), and y is 1 array"
    assert all(line.startswith(outputs) for line in said.values()), said
