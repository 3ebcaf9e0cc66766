"""Several inputs and outputs through the command: the example of docs/data.md, in lanes and by fit, to a model's file."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from support import ROOT, manyfit

from search.storage.records import load

pytestmark = pytest.mark.slow

OPEN = """
import keras, house
model = keras.models.load_model("m.keras")
x, y = house.load()
print(sorted(model.predict(x, verbose=0)), sorted(model.evaluate(x, y, verbose=0, return_dict=True)))
"""


@pytest.mark.gallery
def test_example_of_the_docs_runs_in_lanes_and_by_fit_and_is_exported(tmp_path):
    text = (ROOT / "docs" / "data.md").read_text()
    code = re.search(r"```python\n(# house\.py\n.*?)```", text, re.S)
    study = re.search(r"house.*?```toml\n(.*?)```", text, re.S)
    (tmp_path / "house.py").write_text(code[1])
    (tmp_path / "house.toml").write_text(study[1])
    fast = ["--set", "study.trials=4", "--set", "study.epochs=2", "--set", "search.pruner='none'"]
    curves = {}
    for engine in ("lanes", "fit"):
        how = [*fast, "--set", f"run.engine='{engine}'", "--set", "run.backend='jax'", "--name", engine]
        how += ["--set", "search.sampler='random'"]
        done = manyfit("run", "house.toml", *how, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        curves[engine] = [trial.curve for trial in load(tmp_path / "house.db", engine).trials]
        assert {"price_loss", "sold_loss", "val_sold_auc", "val_price_mae"} <= set(curves[engine][0][0])
    for lanes, fit in zip(*curves.values(), strict=True):
        for ours, theirs in zip(lanes, fit, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-5)
    done = manyfit("export", "house.db", "--name", "lanes", "--model", "m.keras", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "; val_sold_auc " in done.stderr
    assert ", evaluated once more (in the study: " in done.stderr
    opened = subprocess.run([sys.executable, "-c", OPEN], cwd=tmp_path, capture_output=True, text=True)
    assert "['price', 'sold'] ['loss', 'price_loss', 'price_mae', 'sold_auc', 'sold_loss']" in opened.stdout, (
        opened.stderr
    )


@pytest.mark.gallery
def test_plan_says_what_each_input_and_output_is(tmp_path):
    (tmp_path / "house.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    i = np.arange(90)\n"
        "    return {'a': i, 'b': i / 7}, {'price': i / 9, 'sold': i % 2}\n"
        "def build(config, data):\n"
        "    import keras\n"
        "    x = keras.layers.Concatenate()([keras.layers.Rescaling(1.0)(keras.Input((1,), name=n)) for n in 'ab'])\n"
    )
    (tmp_path / "s.toml").write_text(
        '[study]\nobjective = "val_sold_loss"\n[data]\nsource = "house.py:load"\n[model]\nbuild = "house.py:build"\n'
        "[space]\nlearning_rate = { low = 0.001, high = 0.1 }\n"
    )
    done = manyfit("plan", "s.toml", cwd=tmp_path)
    words = " ".join(done.stdout.split())
    assert "price: regression, sold: binary; rows of a (1,) int32, b (1,) float32: 72 for training" in words
