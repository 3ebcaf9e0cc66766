"""Each verdict on training: a broken model that triggers it, and a sound one that does not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import ROOT, in_keras, manyfit, settings, write_study

MODELS = """
import keras


def sound(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(config.get("width", 8), "relu"), keras.layers.Dense(data.outputs)])


def frozen(config, data):
    model = sound(config, data)
    model.layers[0].trainable = False
    return model


def unused(config, data):
    inputs = keras.Input(data.input_shape)
    cut = keras.layers.Lambda(keras.ops.stop_gradient)(keras.layers.Dense(16)(inputs))
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(cut))


def mixing(config, data):
    inputs = keras.Input(data.input_shape)
    mixed = keras.layers.Lambda(lambda x: x - keras.ops.mean(x, axis=0, keepdims=True))(inputs)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(mixed))


def transposed(config, data):
    inputs = keras.Input(data.input_shape)
    turned = keras.layers.Lambda(lambda x: keras.ops.reshape(keras.ops.transpose(x), keras.ops.shape(x)))(inputs)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(turned))


def normalized(config, data):
    layers = [keras.Input(data.input_shape), keras.layers.Dense(16), keras.layers.BatchNormalization()]
    return keras.Sequential([*layers, keras.layers.Dropout(0.2), keras.layers.Dense(data.outputs)])


def unscaled(config, data):
    scaled = [keras.Input(data.input_shape), keras.layers.Rescaling(1000.0)]
    return keras.Sequential([*scaled, keras.layers.Dense(data.outputs)])


def blind(config, data):
    inputs = keras.Input(data.input_shape)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(keras.layers.Rescaling(0.0)(inputs)))


def scaled_twice(config, data):
    model = sound(config, data)
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Rescaling(1 / 255), *model.layers])


def worsening(config, data):
    gain = 1.0 if config["width"] == 8 else 0.0
    cut = [keras.layers.Dense(config["width"], "relu"), keras.layers.Rescaling(gain)]
    return keras.Sequential([keras.Input(data.input_shape), *cut, keras.layers.Dense(data.outputs)])


def constant(config, data):
    layers = [keras.layers.Dense(data.outputs), keras.layers.Rescaling(0.0), keras.layers.Softmax()]
    return keras.Sequential([keras.Input(data.input_shape), *layers])


def convolving(config, data):
    layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(data.outputs)]
    return keras.Sequential([keras.Input(data.input_shape), *layers])


def nine(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(9, activation="softmax")])
    optimizer = keras.optimizers.SGD(config["learning_rate"], config["momentum"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def eleven(config, data):
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(11, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def infinite_loss(y, outputs):
    return keras.ops.log(keras.ops.zeros_like(outputs[:, 0])) * 0


class Late(keras.Model):
    def __init__(self, outputs):
        super().__init__()
        self.hidden, self.last = keras.layers.Dense(8, "relu"), keras.layers.Dense(outputs)

    def call(self, x):
        return self.last(self.hidden(x))


def late(config, data):
    return Late(data.outputs)


def failing(config, data):
    raise ValueError("no such thing")


def off_targets(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.outputs, bias_initializer="ones")])


def of_ids(config, data):
    ids = keras.layers.Embedding(data.vocabulary_size, 8)
    return keras.Sequential([keras.Input(data.input_shape, dtype="int32"), ids, keras.layers.Flatten(), keras.layers.Dense(1)])


def of_images(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(data.outputs)])


def of_several(config, data):
    inputs = {name: keras.Input(shape, name=name) for name, (shape, _) in data.inputs.items()}
    joined = keras.layers.Dense(8, "relu")(keras.layers.Concatenate()(list(inputs.values())))
    return keras.Model(inputs, {"price": keras.layers.Dense(1)(joined), "sold": keras.layers.Dense(1)(joined)})
"""
DATA = """
import numpy as np

rng = np.random.default_rng(0)
x = rng.normal(size=(120, 4)).astype("float32")
sold = (x[:, 0] > 0).astype("int64")
price = x @ np.array([1, 2, -1, 0.5], "float32")


def numbers():
    return x, price


def large_numbers():
    return x, 1000 + price


def texts():
    return np.array(["good film" if one else "bad film" for one in sold]), sold


def images():
    return (rng.uniform(size=(120, 6, 6, 1)) * 100 + 100 * sold[:, None, None, None]).astype("uint8"), sold


def several():
    return {"a": x[:, :2], "b": x[:, 2:]}, {"price": price, "sold": sold}
"""
STUDY = """
[study]
objective = "val_loss"
[data]
source = "sklearn:digits"
limit = 300
[model]
build = "models_of_check.py:sound"
width = 8
[train]
learning_rate = 0.01
[space]
momentum = [0.0, 0.9]
"""
# Source, builder.
KINDS = {
    "numbers": "sound",
    "large_numbers": "off_targets",
    "texts": "of_ids",
    "images": "of_images",
    "several": "of_several",
}


def read(folder: str, source: str, build: str):
    from search.reading import studyfile

    changes = [f'model.build="models_of_check.py:{build}"', f"data.source={source!r}"]
    return studyfile.read(Path(folder) / "small.toml", changes, allow_unused=True)


def of_digits(folder: str, builders: list[str]) -> dict[str, dict[str, str]]:
    """Return the verdicts on training by builder; `slow` and `fast` are the sound one at a rate that is far off."""
    from search import data
    from search.checking import checker
    from search.engines.training import Trainer
    from search.spec.finding import Finding

    found = {}
    loaded = data.load(read(folder, "sklearn:digits", "sound").settings.data, Path(folder), 0)
    for name in builders:
        file = read(folder, "sklearn:digits", name if name not in ("slow", "fast") else "sound")
        rate = {"slow": 1e-7, "fast": 1e7}.get(name, 0.01)
        trainer = Trainer.load(file.settings, file.base, loaded)
        config = {**file.fixed(), "learning_rate": rate}
        model = checker._model(trainer, config)
        is_built = not isinstance(model, Finding)
        found[name] = levels_and_texts(checker._of_training(trainer, model, config, {}) if is_built else [model])
    return found


def of_kinds(folder: str, kinds: list[str]) -> dict[str, list[dict[str, str]]]:
    """Return all verdicts by the kind of data, and what was left out."""
    from search.checking import checker

    found = {}
    for kind in kinds:
        file = read(folder, f"data_of_check.py:{kind}", KINDS[kind])
        *findings, end = checker.check(file.settings, file.base, {**file.fixed(), "learning_rate": 0.05})
        found[kind] = [levels_and_texts(findings), dict(end.left_out)]
    return found


def levels_and_texts(findings) -> dict[str, str]:
    from search.spec.finding import Finding

    findings = [finding for finding in findings if isinstance(finding, Finding)]
    levels = {finding.name: finding.level for finding in findings}
    return levels | {f"text of {finding.name}": finding.text for finding in findings}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    (folder / "models_of_check.py").write_text(MODELS)
    (folder / "data_of_check.py").write_text(DATA)
    write_study(folder, STUDY)
    return folder


def levels(found: dict[str, str]) -> set[str]:
    return {level for name, level in found.items() if not name.startswith("text of ")}


@pytest.mark.gallery
def test_broken_models_trigger_a_verdict_and_sound_ones_do_not(folder):
    found = in_keras(of_digits, str(folder), ["sound", "mixing", "unused"])
    assert levels(found["sound"]) == {"ok"}
    assert found["mixing"]["batch mixing"] == "stop"
    assert found["unused"]["gradients"] == "look"
    assert "(width = 16)" in found["sound"]["text of larger model"]


MORE = [
    "late", "transposed", "frozen", "normalized", "unscaled", "scaled_twice", "blind", "constant", "worsening", "slow", "fast", "failing",
]  # fmt: skip


def left_out_of_slow_models(folder: str) -> dict[str, str]:
    """Return what is left out where every step takes too long."""
    from search import data
    from search.checking import checker, short_training
    from search.engines.training import Trainer

    short_training.LONGEST_STEP_S = 0.0
    file = read(folder, "sklearn:digits", "sound")
    trainer = Trainer.load(file.settings, file.base, data.load(file.settings.data, file.base, 0))
    left_out: dict[str, str] = {}
    list(checker._of_training(trainer, checker._model(trainer, file.fixed()), file.fixed(), left_out))
    return left_out


@pytest.mark.gallery
def test_trainings_are_left_out_where_steps_take_too_long(folder):
    left_out = in_keras(left_out_of_slow_models, str(folder))
    assert {"learning rate", "one batch", "inputs matter", "larger model", "predictions"} <= set(left_out)
    assert all("too long for a check" in why for why in left_out.values())


@pytest.mark.gallery
def test_more_broken_models_trigger_a_verdict(folder):
    found = in_keras(of_digits, str(folder), MORE)
    assert levels(found["late"]) == {"ok"}
    assert found["transposed"]["batch mixing"] == "stop"
    assert found["normalized"]["batch mixing"] == "ok"
    assert found["frozen"]["gradients"] == "look"
    assert found["unscaled"]["loss at start"] == "look"
    assert found["unscaled"]["into the net"] == "look"
    assert found["scaled_twice"]["into the net"] == "look"
    assert found["blind"]["inputs matter"] == "look"
    assert found["constant"]["predictions"] == "look"
    assert found["worsening"]["larger model"] == "look"
    # The later checks train at a rate that learns: nothing else is wrong with these.
    for name in ("slow", "fast"):
        assert found[name]["learning rate"] == "look"
        assert levels({**found[name], "learning rate": "ok"}) == {"ok"}
    assert found["failing"]["model"] == "stop"
    assert "no such thing" in found["failing"]["text of model"]
    assert "one batch" not in found["failing"]


@pytest.mark.gallery
def test_rows_of_several_inputs_are_checked_and_what_does_not_apply_is_named(folder):
    found = in_keras(of_kinds, str(folder), ["several"])
    assert found["several"][0]["one batch"] == "ok"
    assert found["several"][1]["baselines"] == "the data have several inputs or outputs"


@pytest.mark.gallery
def test_rows_of_other_kinds_are_checked(folder):
    found = in_keras(of_kinds, str(folder), ["numbers", "large_numbers", "texts", "images"])
    assert levels(found["numbers"][0]) == {"ok"}
    assert "the targets' variance" in found["numbers"][0]["text of loss at start"]
    assert found["large_numbers"][0]["loss at start"] == "look"
    assert found["texts"][0]["one batch"] == "ok"
    assert found["texts"][1]["baselines"] == "the rows are token ids"
    assert levels(found["images"][0]) == {"ok"}


def test_example_of_the_docs_prints_a_verdict_a_line_and_exits_with_2_on_stop(tmp_path):
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8").split("\n## An example")[1].split("\n## ")[0]
    blocks = re.findall(r"```(\w+)(?: title=\"([\w.]+)\")?\n(.*?)```", page, re.DOTALL)
    for _, name, text in blocks[:2]:
        (tmp_path / name).write_text(text)
    assert blocks[2][2] == "$ manyfit check study.toml\n"
    done = manyfit("check", "study.toml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = done.stdout.splitlines()
    for line in blocks[3][2].splitlines():
        assert re.sub(r"[\d.]+ of their", "# of their", line) in [
            re.sub(r"[\d.]+ of their", "# of their", one) for one in lines
        ]
    # All other checks find the model and its data sound.
    assert lines[-1] == f"{len(lines) - 3} ok, 0 look, 1 stop"
    assert lines[-2].startswith("config: learning_rate 0.003162, width 16; on jax")
    assert {path.name for path in tmp_path.glob("*.*")} == {"my_model.py", "study.check.html", "study.toml"}
    assert "batch mixing" in (tmp_path / "study.check.html").read_text(encoding="utf-8")


def test_run_stops_before_the_first_trial_of_a_study_that_would_be_wasted(folder):
    done = manyfit("run", "small.toml", "--set", "model.build=models_of_check.py:nine", cwd=folder)
    assert done.returncode == 2
    assert "labels: 9 outputs for the labels 0 to 9 of 10 classes; labels are out of range" in done.stderr
    assert done.stderr.endswith("nothing was started; --no-check starts the study anyway\n")
    assert not (folder / "small.db").exists()


@pytest.mark.gallery
def test_run_goes_on_without_the_check(folder):
    changes = ["model.build=models_of_check.py:nine", "study.trials=1", "study.epochs=1"]
    done = manyfit("run", "small.toml", "--no-check", "--name", "unchecked", *settings(changes), cwd=folder)
    assert done.returncode == 0, done.stderr


def quick_findings(folder: str) -> dict[str, list[str]]:
    """Return what the quick check finds in models that are built and not trained."""
    from search import data
    from search.checking import quick
    from search.engines.training import Trainer

    found = {}
    file = read(folder, "sklearn:digits", "sound")
    loaded = data.load(file.settings.data, file.base, 0)
    for name, loss in (("sound", None), ("eleven", None), ("sound", "models_of_check.py:infinite_loss")):
        file = read(folder, "sklearn:digits", name)
        train = file.settings.train.model_copy(update={"loss": loss})
        trainer = Trainer.load(file.settings.model_copy(update={"train": train}), file.base, loaded)
        model = trainer.model(file.fixed(), seed=0)
        found[f"{name} {loss or ''}"] = [f"{one.level} {one.name}" for one in quick.of_model(model, trainer)]
    return found | {"data": [one.name for one in quick.of_data(loaded)]}


@pytest.mark.gallery
def test_quick_check_stops_only_for_what_is_certain(folder):
    found = in_keras(quick_findings, str(folder))
    assert found == {
        "sound ": [],
        "eleven ": ["look labels"],
        "sound models_of_check.py:infinite_loss": ["stop loss at start"],
        "data": [],
    }


@pytest.mark.gallery
def test_model_with_a_convolution_is_checked_on_the_backend_that_trains_it(folder):
    changes = ["data.source=data_of_check.py:images", "model.build=models_of_check.py:convolving"]
    done = manyfit("check", "small.toml", "--json", *settings(changes), cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["backend"] == "tensorflow"
    names = [finding["name"] for finding in report["findings"]]
    assert (names.count("inputs"), names.count("one batch")) == (1, 1)


@pytest.mark.gallery
def test_check_of_a_program_is_json_on_tensorflow(folder):
    done = manyfit("check", "small.toml", "--json", "--set", "run.backend=tensorflow", "-o", "page.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Learning-rate range test" in (folder / "page.html").read_text(encoding="utf-8")
    report = json.loads(done.stdout)
    assert (report["study"], report["backend"]) == ("small", "tensorflow")
    assert {finding["level"] for finding in report["findings"]} == {"ok"}
    assert next(finding for finding in report["findings"] if finding["name"] == "one batch")["numbers"]["last"] < 1


def test_check_of_a_study_that_run_would_refuse_says_why(folder):
    done = manyfit("check", "small.toml", "--set", 'data.source="none.npz"', cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.npz" in done.stderr.splitlines()[-1]
    done = manyfit("check", "small.toml", "-o", "models_of_check.py", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "models_of_check.py is code of the study; name another file" in done.stderr
