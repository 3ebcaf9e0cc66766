"""Arrays of texts: searched in lanes and by fit, exported with the vocabulary inside, opened by Keras alone on raw texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from support import PROGRAMS, ROOT, in_keras, manyfit

from search.engines.devices import Device

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Real texts: the documentation of functions of two libraries, told apart by their words.
DOCS = """
import inspect
import keras
import numpy as np
import pandas as pd


def functions(module):
    found = {name: inspect.getdoc(item) or "" for name, item in sorted(vars(module).items()) if callable(item)}
    return [text[:400] for text in found.values() if len(text) > 200]


def texts():
    import scipy.stats

    numpys, scipys = functions(np)[:200], functions(scipy.stats)[:200]
    return np.array([*numpys, *scipys], object), np.array([0] * len(numpys) + [1] * len(scipys))


def load():
    x, y = texts()
    part = np.random.default_rng(0).choice(["train", "validation"], len(x), p=[0.7, 0.3])
    return {"x": x, "y": y, "part": part}


def load_several():
    given = load()
    lengths = np.array([[len(text), text.count("\\n")] for text in given["x"]], "float32") / 400
    return {**given, "x": {"body": given["x"], "first": [text.split("\\n")[0] for text in given["x"]], "length": lengths}}


def load_table():
    given = load()
    frame = pd.DataFrame({"body": given["x"], "kind": [text[:1] for text in given["x"]], "length": map(len, given["x"])})
    frame.loc[::5, "length"] = np.nan
    first = np.array([text.split()[0] for text in given["x"]], object)
    photo = np.random.default_rng(1).integers(0, 256, (len(frame), 3, 2), np.uint8)
    return {**given, "x": (frame.assign(since="2024-01-01"), photo, first)}


def build_table(config, data):
    inputs = [keras.Input(shape, dtype=dtype) for shape, dtype in data.inputs.values()]
    photo = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs[1]))
    words = keras.layers.Flatten()(keras.layers.Embedding(data.vocabulary_sizes["2"], 3)(inputs[2]))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()([inputs[0], photo, words])))


def build(config, data):
    ids = keras.Input(data.input_shape, dtype="int32")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(data.vocabulary_size, 8, mask_zero=True)(ids))
    return keras.Model(ids, keras.layers.Dense(1)(x))


def build_several(config, data):
    inputs = {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in data.inputs.items()}
    parts = [inputs["length"]]
    for name, size in data.vocabulary_sizes.items():
        parts.append(keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(size, 8)(inputs[name])))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(parts)))
"""

STUDY = """
[study]
objective = "val_loss"
trials = 2
epochs = 3
[data]
source = "docs.py:{load}"
split = "part"
test = 0
{more}
[model]
build = "{build}"
[train]
batch_size = 32
[space]
learning_rate = [0.01, 0.03]
[search]
sampler = "grid"
pruner = "none"
[run]
engine = "{engine}"
backend = "{backend}"
"""

# Keras and nothing of ours.
OPEN = PROGRAMS / "open_texts.py"


def opened(folder, load, backend):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", OPEN, load],
        cwd=folder, env={**environment, **Device().environment(backend)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["loss"]


def searched(folder, engine, backend, **settings):
    name = f"{engine}-{backend}"
    (folder / f"{name}.toml").write_text(STUDY.format(engine=engine, backend=backend, **settings))
    done = manyfit("run", f"{name}.toml", cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr
    best = json.loads((folder / f"{name}.best.json").read_text())
    return {config["params"]["learning_rate"]: config["curve"]["val_loss"] for config in best["configs"]}, best


CASES = {
    "ids": {"load": "load", "build": "docs.py:build", "more": ""},
    "tf_idf": {"load": "load", "build": "mlp", "more": 'text = { output_mode = "tf_idf", max_tokens = 300 }'},
    "several": {"load": "load_several", "build": "docs.py:build_several", "more": "text = { max_tokens = 900 }"},
    "table": {"load": "load_table", "build": "docs.py:build_table", "more": 'columns = { category = ["kind"] }'},
}


@pytest.mark.gallery
@pytest.mark.parametrize("case", CASES)
def test_texts_are_searched_exported_and_opened_on_raw_texts(tmp_path, case):
    (tmp_path / "docs.py").write_text(DOCS)
    settings = CASES[case]
    lanes, best = searched(tmp_path, "lanes", "jax", **settings)
    fit, _ = searched(tmp_path, "fit", "jax", **settings)
    for rate, curve in lanes.items():
        np.testing.assert_allclose(curve, fit[rate], rtol=1e-5, atol=1e-5)
    _, of_tensorflow = searched(tmp_path, "fit", "tensorflow", **settings)
    for study, its in (("lanes-jax", best), ("fit-tensorflow", of_tensorflow)):
        (tmp_path / "best.keras").unlink(missing_ok=True)
        done = manyfit("export", f"{study}.toml", "--model", "best.keras", cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "it takes " in done.stderr
        assert "NOT inside" not in done.stderr
        value = its["configs"][0]["value"]
        for backend in ("tensorflow", "jax"):
            assert opened(tmp_path, settings["load"], backend) == pytest.approx(value, rel=1e-4), (study, backend)


def exported():
    import sys

    from export_kit import FOLDER, export, trainer_of

    from search.engines import raw_rows

    sys.path.insert(0, str(FOLDER))
    raw_rows.find_tensorflow()
    found = {}
    for name, load, build, text in (
        ("ids", "load", {"build": "docs.py:build"}, None),
        ("hot", "load", {"build": "mlp", "units": [4]}, {"output_mode": "multi_hot", "max_tokens": 50}),
        ("several", "load_several", {"build": "docs.py:build_several"}, {"output_sequence_length": 30}),
        ("table", "load_table", {"build": "docs.py:build_table"}, {"max_tokens": 40}),
    ):
        case = export(name, {"source": f"docs.py:{load}", "split": "part", "text": text, "test": 0}, build)
        found[name] = {"lines": case["lines"], "values": case["values"], "study": case["study"]}
    try:
        trainer_of({"source": "docs.py:load", "split": "part", "test": 0})
    except Exception as error:
        found["refused"] = str(error)
    return found


@pytest.mark.gallery
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_exported_models_of_texts_have_the_values_of_their_study(tmp_path, backend):
    (tmp_path / "docs.py").write_text(DOCS)
    found = in_keras(exported, backend=backend, cwd=tmp_path)
    assert found["refused"].startswith("model.build: mlp takes features, and x is token ids")
    for name in ("ids", "hot", "several", "table"):
        assert found[name]["values"]["val_loss"] == pytest.approx(found[name]["study"]["loss"], rel=1e-5)
    assert found["ids"]["lines"][0] == "it takes texts as the source has them, an array (rows,)"
    assert "a dict of inputs: body (text), first (text), length" in found["several"]["lines"][0]
    assert (
        "a dict of columns and other inputs: body (text), kind (category), length (number), since (date), 2 (text), 1"
        in (found["table"]["lines"][0])
    )


@pytest.mark.gallery
def test_example_of_the_docs_is_searched(tmp_path):
    blocks = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").split("\n## Texts\n")[1]
    (tmp_path / "reviews.py").write_text(blocks.split("```python\n")[1].split("```")[0])
    text = blocks.split("```toml\n")[1].split("```")[0]
    (tmp_path / "s.toml").write_text(text)
    done = manyfit("run", "s.toml", "--trials", "2", "--set", "study.epochs=3", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "s.best.json").read_text())["configs"]
