"""What `manyfit init` writes runs at once, and beats the baseline that it printed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tomllib

import numpy as np
import pytest
from drafting_kit import SOURCES, customers_csv, fraud_csv, house_function, power_csv, weighted_function, wine_csv
from support import MANYFIT, ROOT, SHARED, manyfit

pytestmark = pytest.mark.slow


def begun(folder, source, *options):
    """Run init; return the study file and the value that it says is to be beaten."""
    done = manyfit("init", "--data", source, *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.toml")
    assert done.stderr.splitlines()[-1] == f"next: manyfit run {path.name}"
    printed = re.search(r"to beat +(\S+) on the (\d+) validation rows", done.stdout)
    assert f"To beat: {printed[1]} on the {printed[2]}" in path.read_text(encoding="utf-8")
    return path, float(printed[1])


def is_better(path, value, baseline):
    objective = tomllib.loads(path.read_text(encoding="utf-8"))["study"]["objective"]
    return value > baseline if objective in ("val_accuracy", "val_auc") else value < baseline


def beats_its_baseline(folder, source, *options):
    path, baseline = begun(folder, source)
    planned = manyfit("plan", path, "--json", cwd=folder)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["refused"] == plan["notes"] == []
    assert "parameters" in plan["model"]
    done = manyfit("run", path.name, "--trials", "3", *options, cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)["value"]
    assert is_better(path, value, baseline), (value, baseline)
    return plan


def test_table_of_all_kinds_of_columns_runs_at_once(tmp_path):
    source = customers_csv(tmp_path)
    path, baseline = begun(tmp_path, source)
    done = manyfit("run", path.name, "--trials", "2", "--set", "study.epochs=10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] > baseline
    again = manyfit("init", "--data", source, cwd=tmp_path)
    assert again.returncode == 2
    assert "customers.toml and my_model.py are there already, and nothing was written" in again.stderr
    forced = manyfit("init", "--data", source, "--force", "--set", "data.limit=300", cwd=tmp_path)
    assert forced.returncode == 0
    assert "customers.db has a study already" in forced.stderr
    refused = manyfit("run", path.name, cwd=tmp_path)
    assert refused.returncode == 2
    assert "data.limit" in refused.stderr


def test_commands_of_the_readme_begin_a_study(tmp_path):
    """B7: and what was not asked for is refused."""
    wine_csv(tmp_path)
    refused = manyfit("init", "wine.csv", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == "manyfit: the data stand behind --data; write manyfit init --data wine.csv\n"
    assert [path.name for path in tmp_path.iterdir()] == ["wine.csv"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "manyfit init --data " in readme
    done = subprocess.run(
        [*MANYFIT, "init", "--data", "wine.csv", "--name", "first"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first.toml").is_file()


def test_init_that_is_killed_while_it_writes_leaves_no_half_of_a_file(tmp_path):
    """F2: a power cut between the files."""
    wine_csv(tmp_path)
    point = "before the rename to wine.toml"
    done = manyfit("init", "--data", "wine.csv", cwd=tmp_path, env={"MANYFIT_KILL_AT": f"{point}+1"})
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "my_model.py").read_text(encoding="utf-8").endswith("return keras.Model(inputs, outputs)\n")
    assert not (tmp_path / "wine.toml").exists()
    assert manyfit("init", "--data", "wine.csv", "--force", cwd=tmp_path).returncode == 0


@pytest.mark.gallery
@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_every_kind_of_data_beats_its_baseline(tmp_path, make):
    beats_its_baseline(tmp_path, make(tmp_path))


CONSTANT = '''
import keras

keras.utils.set_random_seed(0)


def head(inputs, outputs, bias):
    dense = keras.layers.Dense(outputs, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(bias))
    return dense(keras.layers.Dropout(0.0)(keras.layers.Flatten()(inputs)))


def build(config, data):
    """Predict the same for every row: training with a rate of 1e-30 changes nothing."""
    BODY
'''
ONE = """inputs = keras.Input(data.input_shape)
    return keras.Model(inputs, head(inputs, data.outputs, config["bias"]))"""
SEVERAL = """inputs = {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in data.inputs.items()}
    outputs = {name: head(inputs["size"], 1, bias) for name, bias in config["bias"].items()}
    return keras.Model(inputs, outputs)"""


def of_numbers(loaded):
    return float(loaded.y_train.mean())


def of_most_frequent(loaded):
    return np.eye(loaded.info.classes)[np.bincount(loaded.y_train.reshape(-1)).argmax()].tolist()


def of_shares(loaded):
    price, sold = loaded.y_train["price"], loaded.y_train["sold"]
    return {"price": float(price.mean(dtype=np.float64)), "sold": float(np.log(sold.mean() / (1 - sold.mean())))}


def of_weighted_shares(loaded):
    counts = np.bincount(loaded.y_train.reshape(-1), weights=loaded.w_train.astype(float))
    return np.log(counts / counts.sum()).tolist()


@pytest.mark.gallery
@pytest.mark.parametrize(
    ("make", "bias"),
    [
        (wine_csv, of_most_frequent),
        (power_csv, of_numbers),
        (house_function, of_shares),
        (weighted_function, of_weighted_shares),
        (fraud_csv, lambda loaded: 0.0),
    ],
)
def test_baseline_is_what_a_constant_model_gets(tmp_path, make, bias):
    from search import data
    from search.spec.settings import DataSection

    path, baseline = begun(tmp_path, make(tmp_path))
    text = path.read_text(encoding="utf-8")
    loaded = data.load(DataSection(**tomllib.loads(text)["data"]), tmp_path, 0)
    body = SEVERAL if loaded.has_several_outputs else ONE
    (tmp_path / "my_model.py").write_text(CONSTANT.replace("BODY", body), encoding="utf-8")
    head = (
        text.split("\n[space]\n")[0]
        .replace("depth = 2 ", "# ")
        .replace("\n[train]\n", "\n[train]\nlearning_rate = 1e-30\n")
    )
    from search.reading import tomltext

    head = head.replace("\n[model]\n", f"\n[model]\nbias = {tomltext.value(bias(loaded))}\n")
    path.write_text(f"{head}\n[space]\nbatch_size = [64, 128]\n", encoding="utf-8")
    done = manyfit("run", path.name, "--trials", "1", "--set", "study.epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] == pytest.approx(baseline, rel=1e-3)


@pytest.mark.gallery
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs {SHARED}")
@pytest.mark.parametrize("source", ["mnist.npz", "fashion_mnist.npz", "cifar10_4000.npz"])
def test_pictures_beat_their_baseline(tmp_path, source):
    plan = beats_its_baseline(tmp_path, SHARED / source)
    assert plan["data"]["classes"] == 10


@pytest.mark.gallery
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs {SHARED}")
def test_photos_of_cats_and_dogs_beat_their_baseline(tmp_path):
    for split, count in (("train", 400), ("validation", 150)):
        for kind in ("cat", "dog"):
            folder = tmp_path / "photos" / split / kind
            folder.mkdir(parents=True)
            for file in sorted((SHARED / "cats_vs_dogs" / split / kind).iterdir())[:count]:
                shutil.copy(file, folder)
    plan = beats_its_baseline(tmp_path, "photos")
    assert plan["data"]["input_shape"] == [64, 64, 3]
