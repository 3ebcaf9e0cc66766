"""Wrong calls of the Python interface: the error names the argument, what was received, and what to write."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import ROOT

import manyfit as mf
from search.errors import ManyfitError
from search.python import edge
from search.python.models import indexed_like

X, Y = np.zeros((30, 4), "float32"), np.arange(30) % 3
SPACE = {"rate": mf.Float(1e-4, 1e-1, log=True)}


def study(build: Any = lambda config, data: None, data: Any = (X, Y), space: Any = SPACE, **others: Any) -> mf.Study:
    return mf.Study(build, data, space, **others)


# The keyword arguments of a call, and what the error says.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"build": None}, "build: must be a function (config, data) -> keras.Model"),
    ({"build": "mpl"}, "build: no such builder: 'mpl'; did you mean 'mlp'?"),
    ({"build": lambda a, b, c: a}, "build: <lambda>(a, b, c) can't be called as (config, data)"),
    ({"space": None}, 'space: missing; give one such as {"learning_rate": Float(1e-4, 1e-1, log=True)}'),
    ({"build": Path("my_model.py")}, 'write "my_model.py:build"'),
    ({"build": "gone.py:build"}, "gone.py is not there"),
    ({"data": None}, "data: must be arrays such as (x, y)"),
    ({"data": 3}, "received 3"),
    ({"data": "digits"}, "data: no such data source: 'digits'; did you mean 'sklearn:digits'?"),
    ({"data": "rows.csv"}, "rows.csv: no such file; give its path relative to the working folder"),
    ({"data": mf.Data((X, Y), valdation=0.2)}, "data[\"valdation\"]: unknown key; did you mean 'validation'?"),
    ({"data": mf.Data((X, Y), validation=2.0)}, 'data["validation"]: must be below 1; received 2.0'),
    ({"space": {}}, "space: there is nothing to search"),
    ({"space": [1]}, "space: must be a dictionary such as"),
    ({"space": {"rate": 0.1}}, 'space["rate"]: a parameter is a list of choices or has low and high; received 0.1'),
    ({"space": {"rate": mf.Float}}, 'space["rate"]: Float needs its bounds or choices; write Float(...)'),
    ({"space": {"the rate": mf.Float(0, 1)}}, 'space["the rate"]: a parameter\'s name is of letters, digits and _'),
    ({"space": "denze"}, "space: no such preset: 'denze'; there are conv, dense; did you mean 'dense'?"),
    ({"space": {"a": mf.Int(0, 4, when={"b": (1,)})}}, 'space["a"]["when"]: \'b\' is not a parameter of the space'),
    ({"objective": "test_accuracy"}, "objective: test rows are never used in a search"),
    ({"objective": "val_thing"}, 'add direction = "maximize" or "minimize"'),
    ({"direction": "up"}, "direction: must be 'minimize' or 'maximize'; received 'up'; did you mean 'maximize'?"),
    ({"trials": 0}, "trials: must be at least 1; received 0"),
    ({"trials": 2.5}, "trials: must be a whole number; received 2.5"),
    ({"epochs": "5"}, "epochs: must be a whole number; received '5'"),
    ({"time": "soon"}, "time: must be a number of seconds above 0"),
    ({"seed": -1}, "seed: must be at least 0; received -1"),
    ({"name": "a/b"}, "name: must start with a letter or digit"),
    ({"name": ""}, "name: must be a text that is not empty"),
    ({"storage": "nowhere/a.db"}, "storage: the folder"),
    ({"storage": "postgresql://me:secret@host/db"}, "storage: must be an SQLite file"),
    ({"train": [1]}, "train: must be a dictionary of settings; received a list"),
    ({"train": {"batch": 32}}, "train[\"batch\"]: unknown key; did you mean 'batch_size'?"),
    ({"train": {"batch_size": 0}}, 'train["batch_size"]: must be at least 1; received 0'),
    ({"train": {"callbacks": ["EarlyStopping"]}}, 'write "early_stopping": {"patience": 5} under search instead'),
    ({"search": {"sampler": "bayess"}}, "search[\"sampler\"]: no such sampler: 'bayess'; did you mean 'bayes'?"),
    ({"search": {"early_stopping": 5}}, 'must be a dictionary; write "early_stopping": {"patience": 5}; received 5'),
    ({"search": {"start": [{"rate": 5.0}]}}, 'search["start"][0]["rate"]: must lie in 0.0001..0.1; received 5.0'),
    ({"run": {"engine": "lane"}}, "run[\"engine\"]: must be 'auto', 'fit' or 'lanes'; received 'lane'"),
    ({"run": {"storage": "a.db"}}, 'run["storage"]: give the database as the argument storage'),
    ({"limits": {"parameter": 200}}, "limits[\"parameter\"]: unknown key; did you mean 'parameters'?"),
    ({"limits": {"latency_ms": 0}}, 'limits["latency_ms"]: must be above 0; received 0'),
    ({"model": {"build": "mlp"}}, 'model["build"]: give the builder as the first argument'),
    ({"build": "mlp", "model": {"unitz": [3]}}, "model[\"unitz\"]: mlp has no unitz; did you mean 'units'?"),
    ({"model": {"rate": 3}}, "space[\"rate\"]: 'rate' is both searched here and fixed in model"),
    ({"model": {"table": np.ones(3)}}, 'model["table"]: must be a text, finite number, boolean'),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[said[:50] for _, said in WRONG])
def test_wrong_call_names_its_argument(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mf.UsageError) as error:
        study(**arguments)
    assert said in str(error.value)
    assert "secret" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_objects_of_keras_are_answered_with_the_line_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = f"""
import sys
sys.path[:0] = {[str(ROOT / "tests"), str(ROOT / "tests" / "unit")]!r}
import keras
from test_python_arguments import study
class Own(keras.metrics.Metric):
    pass
for train in (
    {{"optimizer": keras.optimizers.Adam(0.1)}},
    {{"loss": keras.losses.Huber(delta=0.5)}},
    {{"metrics": ["accuracy", keras.metrics.AUC(curve="PR")]}},
    {{"metrics": [Own()]}},
    {{"callbacks": [keras.callbacks.CSVLogger("log.csv")]}},
    {{"callbacks": [keras.callbacks.EarlyStopping]}},
):
    try:
        study(train=train)
    except Exception as error:
        print(error)
try:
    study(build=keras.Sequential())
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=_environment())
    assert done.stdout.splitlines() == [
        'train["optimizer"]: every trial needs an optimizer of its own; received an Adam; write train={"optimizer": "adam", "learning_rate": 0.001}',
        "train[\"loss\"]: every trial needs one of its own; received a Huber; write {'name': 'Huber', 'delta': 0.5}",
        "train[\"metrics\"][1]: every trial needs one of its own; received an AUC; write {'name': 'AUC', 'curve': 'PR'}",
        'train["metrics"][0]: every trial needs a metric of its own; received an Own; give the class Own',
        'train["callbacks"][0]: every trial needs a callback of its own; received a CSVLogger; give the class CSVLogger, or a function that makes one: lambda config: CSVLogger(...); or {"name": "CSVLogger"} with its options',
        'train["callbacks"][0]: EarlyStopping can\'t be named here: write "early_stopping": {"patience": 5} under search instead: it stops on the objective, as Keras\'s callback does, and the weights of the best epoch are kept',
        (
            "build: must be a function (config, data) -> keras.Model, one in KerasTuner's form, (hp) -> keras.Model, "
            '"my_model.py:build", or a builder\'s name such as "mlp"; received a Sequential'
        ),
    ], done.stderr


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_a_study_that_has_not_begun_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fresh = study(name="fresh")
    after = (
        fresh.evaluate,
        lambda: fresh.predict(X),
        lambda: fresh.retrain("a.keras"),
        lambda: fresh.ensemble("a.keras"),
    )
    for read in (
        lambda: fresh.best,
        lambda: fresh.trials,
        fresh.plot.curves,
        fresh.export,
        lambda: fresh.model(0),
        *after,
    ):
        with pytest.raises(mf.UsageError, match=r"fresh has not begun: .* use run\(\) first"):
            read()
    assert repr(fresh) == f"<Study 'fresh' in {tmp_path / 'fresh.db'}>"
    with pytest.raises(mf.UsageError, match="trials: must be a whole number; received '5'"):
        fresh.run(trials="5")  # type: ignore[arg-type]
    with pytest.raises(mf.StoreError, match="no such study"):
        mf.load(tmp_path / "gone.db")
    with pytest.raises(mf.UsageError, match="path: must be a database"):
        mf.load(3)  # type: ignore[arg-type]
    for use, text in (
        (lambda: fresh.evaluate("tests"), "split: must be one of test, validation, train; received 'tests'"),
        (lambda: fresh.evaluate(trial=1, model="a.keras"), "trial and model: a file is of one trial already"),
        (lambda: fresh.predict(X, model=3), 'model: must be a path such as "best.keras"; received 3'),
        (lambda: fresh.retrain("a.h5"), "output: a model is saved as a .keras file; received a.h5"),
        (lambda: fresh.retrain("a.keras", full=True, long=True), "full and long: full leaves no rows"),
        (lambda: fresh.retrain("a.keras", rank=0), "rank: must be a whole number of at least 1; received 0"),
        (
            lambda: fresh.retrain("a.keras", seed=2**32),
            "seed: must be a whole number of at least 0 and at most 4294967295",
        ),
        (lambda: fresh.ensemble("a.keras", top=1), "top: must be a whole number of at least 2; received 1"),
    ):
        with pytest.raises(mf.UsageError, match=re.escape(text)):
            use()
    with pytest.raises(AttributeError, match="no attribute 'Studie'"):
        mf.Studie  # noqa: B018


def test_a_second_press_of_the_stop_button_waits_for_a_study_that_ends(monkeypatch):
    monkeypatch.setattr(edge, "DOUBLE_PRESS_S", 0.0)
    before = signal.getsignal(signal.SIGINT)
    with edge.interrupts() as look:
        assert look() == 0
        signal.raise_signal(signal.SIGINT)
        assert look() == signal.SIGINT
        signal.raise_signal(signal.SIGINT)  # it stores and ends its workers
        monkeypatch.setattr(edge, "ENDING_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with edge.interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # nothing looks for the first one
    assert signal.getsignal(signal.SIGINT) is before


def test_what_can_not_be_pickled_is_named_with_its_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers = (number for number in range(3))
    for arguments, argument in (
        ({"data": numbers}, "data"),
        ({"build": partial(lambda config, data, rows: rows, rows=numbers)}, "build"),
        ({"train": {"metrics": ["mae", lambda y, output: numbers]}}, 'train["metrics"][1]'),
    ):
        with pytest.raises(mf.UsageError) as error:
            study(**arguments).run(progress=False)
        assert str(error.value).startswith(f"{argument}: can't be handed to the worker processes: TypeError: ")
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_taken_as_python_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = study(
        trials=np.int64(3),
        space={"rate": mf.Float(np.float32(0.5), 1), "units": np.array([8, 16]).tolist(), "depth": range(1, 4)},
        train={"batch_size": np.int32(16), "class_weight": {0: 1, 1: 2.0}},
        search={"start": [{"rate": np.float64(0.5), "units": np.int64(8), "depth": 1}]},
    )
    settings = made._file.settings
    assert settings.study.trials == 3
    assert settings.train.class_weight == {"0": 1.0, "1": 2.0}
    assert made._file.space.describe() == {
        "rate": {"low": 0.5, "high": 1.0},
        "units": {"choices": [8, 16]},
        "depth": {"choices": [1, 2, 3]},
    }
    assert isinstance(made._file.space["rate"], mf.Float)


def test_importing_manyfit_imports_nothing_else():
    script = "import sys; before = set(sys.modules); import manyfit; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, env=_environment())
    imported = eval(done.stdout)  # noqa: S307 (a list of names)
    standard = [name for name in imported if name.partition(".")[0] in sys.stdlib_module_names]
    assert sorted(set(imported) - set(standard)) == ["manyfit", "manyfit.start"], done.stderr


def test_every_public_name_is_there_and_documented():
    for name in mf.__all__:
        value = getattr(mf, name)
        assert name == "__version__" or value.__doc__ or issubclass(value, ManyfitError)
    assert set(dir(mf)) == set(mf.__all__)


def test_predictions_have_the_index_of_the_table_that_they_are_of():
    rows = pd.DataFrame({"width": [3.0, 1.0]}, index=["b", "a"])
    predictions = indexed_like(rows, pd.DataFrame({"prediction": [30, 10]}))
    assert rows.join(predictions).loc["a", "prediction"] == 10
    # Windows over a series give fewer lines than rows; an array has no index; a list's `index` is a method.
    for other in (pd.DataFrame({"width": [3.0]}), np.zeros((2, 1)), [3.0, 1.0]):
        assert indexed_like(other, pd.DataFrame({"prediction": [30, 10]})).index.equals(pd.RangeIndex(2))
