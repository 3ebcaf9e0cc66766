"""No code comes out of a file that is not named as code: no pickle, no eval, nothing of Keras's that loads functions."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest
from support import ROOT

from search.engines.devices import Device

SOURCES = sorted(path for room in ("search", "spaces", "models") for path in (ROOT / room).rglob("*.py"))

# What makes code, or objects of any class, out of what is read.
CALLS = {"eval", "exec", "compile", "__import__", "enable_unsafe_deserialization", "custom_object_scope"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}

# A program hands its own objects to the workers that it starts, in memory that nobody else can write, and takes the model back
# from them: docs/decisions/0021. `compile` finds the source of a function, and runs nothing.
ALLOWED = {
    "search/python/handing.py": ["pickle", "cloudpickle", "cloudpickle"],
    "search/python/hashing.py": ["compile", "compile"],
    "search/python/models.py": ["load_model without safe_mode=True"],
    "search/workers/handover.py": ["pickle"],
}


def problems(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [name for name in names if name.partition(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if isinstance(function, ast.Name) and name in CALLS:
            found.append(name)
        if isinstance(function, ast.Attribute) and name in CALLS - {"compile", "eval"}:
            found.append(name)
        if name in ("load_model", "deserialize_keras_object") and options.get("safe_mode") != "True":
            found.append(f"{name} without safe_mode=True")
        if ast.unparse(function) in ("np.load", "numpy.load") and options.get("allow_pickle") != "False":
            found.append("np.load without allow_pickle=False")
        if options.get("safe_mode") == "False" or options.get("allow_pickle") == "True":
            found.append(f"{name} that trusts a file")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_is_made_of_what_is_read(path):
    assert problems(path.read_text(encoding="utf-8")) == ALLOWED.get(str(path.relative_to(ROOT)), [])


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "keras.models.load_model(path)",
        "load_model(path, safe_mode=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "keras.config.enable_unsafe_deserialization()",
    ],
)
def test_such_code_would_be_seen(line):
    assert problems(line)
    assert not problems(
        "keras.models.load_model(path, safe_mode=True); np.load(path, allow_pickle=False); re.compile(x)"
    )


NAMED = r"""
import sys
from pathlib import Path
import keras
from search import data
from search.engines.training import Trainer, leave_tensorflow_out
from search.errors import UsageError
from search.spec.settings import DataSection, Settings, TrainSection

leave_tensorflow_out()
folder = Path(sys.argv[1])
calls = {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"}
code = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None, "closure": None}}
loaded = data.load(DataSection(source="sklearn:digits", limit=100), Path(), 0)
config = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 32, "epochs": 1}
for name, fn in (("MeanMetricWrapper", calls), ("MeanMetricWrapper", code), ("Lambda", code), ("__lambda__", code)):
    settings = Settings(data=DataSection(source="sklearn:digits"), train=TrainSection(metrics=[{"name": name, "fn": fn}]))
    try:
        Trainer.load(settings, Path(), loaded).model(config, 0)
    except UsageError as error:
        print("refused:", str(error).replace("\n", " "))

path = folder / "bad.keras"
mark = folder / "mark"
keras.Sequential([keras.Input((64,)), keras.layers.Lambda(lambda x: (open(mark, "w"), x)[1]), keras.layers.Dense(10)]).save(path)
mark.unlink(missing_ok=True)
(folder / "mine.py").write_text(f"import keras\ndef build(config, data):\n    return keras.models.load_model({str(path)!r})")
settings = Settings.model_validate({"data": {"source": "sklearn:digits"}, "model": {"build": "mine.py:build"}})
try:
    Trainer.load(settings, folder, loaded).model(config, 0)
except ValueError as error:
    print("refused:", str(error))
assert not mark.exists()
"""


@pytest.mark.slow
def test_neither_a_study_file_nor_a_saved_model_brings_code_of_its_own(tmp_path):
    """B2. Losses and metrics that name functions anywhere, and a .keras with a Lambda that a builder loads as Keras does."""
    env = {**os.environ, **Device().environment("jax")}
    done = subprocess.run([sys.executable, "-c", NAMED, str(tmp_path)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in said if line.startswith("refused")] == ["refused"] * 5
    assert "unsafe" in said[-1] or "safe_mode" in said[-1]
