"""Studies that Python programs make, each in a real process: results, models, going on, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, manyfit, wait_for

from search.storage import records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}

# Wine in three splits, which the program knows: it can evaluate a model on the study's own validation rows.
WINE = """
import json
import numpy as np
from sklearn.datasets import load_wine
import manyfit as mf

wine = load_wine()
order = np.random.default_rng(0).permutation(len(wine.target))
x, y = wine.data[order], wine.target[order]
data = {"x_train": x[:100], "y_train": y[:100], "x_validation": x[100:140], "y_validation": y[100:140]}
"""
BUILD = """
def build(config, data):
    import keras  # in the workers only: the program starts quickly
    return keras.Sequential([
        keras.Input(data.input_shape),
        keras.layers.Dense(config["units"], activation="relu"),
        keras.layers.Dense(data.outputs),
    ])
"""


def write(folder: Path, *parts: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text("\n".join(textwrap.dedent(part) for part in parts), encoding="utf-8")
    return path


def ran(path: Path, *, code: int = 0) -> list[Any]:
    """Run a script and return the JSON that it has printed, a line each."""
    done = subprocess.run([sys.executable, path.name], cwd=path.parent, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()] if code == 0 else [done.stderr]


def test_a_program_searches_reads_what_it_found_and_gets_the_model(tmp_path):
    """Scaled rows and repeats: the model takes rows as they are, and gives the stored values."""
    script = write(
        tmp_path,
        WINE,
        BUILD,
        """
        study = mf.Study(
            build, mf.Data(data, scale="standard"), {"learning_rate": mf.Float(1e-3, 1e-1, log=True), "units": [8, 16]},
            "val_accuracy", trials=3, epochs=4, name="wine",
        )
        study.run(progress=False)
        best = study.best
        model = best.model()
        loss, accuracy = model.evaluate(x[100:140], y[100:140], verbose=0)
        curve = study.curves.query("trial == @best.number").set_index("epoch")
        print(json.dumps({
            "compiled": model.compiled, "accuracy": accuracy, "value": best.value, "loss": loss,
            "stored": [curve.val_accuracy[best.epoch], curve.val_loss[best.epoch]],
            "params": best.params, "config": best.config, "same": study.export()["configs"][0]["params"] == best.params,
            "trials": len(study.trials), "rows": len(study.curves), "epochs": int(study.trials.epochs.sum()),
            "columns": [*study.trials.columns], "metrics": sorted(study.curves.columns), "text": repr(study),
        }))
        measured, table = study.evaluate("validation"), study.predict(x[100:140])
        print(json.dumps({
            "measured": [measured["metrics"][name]["value"] for name in ("accuracy", "loss")], "rows": measured["rows"],
            "columns": [*table], "same": bool((table["prediction"].astype(int) == model.predict(x[100:140], verbose=0).argmax(1)).all()),
        }))
        opened = mf.load("wine.db")
        print(json.dumps({"equal": opened.trials.equals(study.trials), "name": opened.name, "best": opened.best.value}))
        try:
            opened.best.model()
        except mf.UsageError as error:
            print(json.dumps(str(error)))
        print(json.dumps({
            "curves": [len(study.plot.curves().data), len(study.plot.curves("loss", top=2).data)],
            "history": [list(map(float, trace.y)) for trace in study.plot.history().data][0],
            "parallel": [axis.label for axis in study.plot.parallel().data[0].dimensions],
            "slices": len(study.plot.slices().data),
            "confusion": [sum(int(text) for text in trace.text) for trace in study.plot.confusion().data if trace.type == "scatter"],
            "others": [len(draw().data) for draw in (study.plot.gap, study.plot.best, study.plot.time, study.plot.contours)],
        }))
        for draw in (lambda: study.plot.importance(), lambda: study.plot.curves("val_acuracy"), lambda: study.model(7)):
            try:
                draw()
            except mf.UsageError as error:
                print(json.dumps(str(error)))
        """,
    )
    found, used, opened, refused, drawn, *errors = ran(script)
    assert found["compiled"]
    assert found["accuracy"] == pytest.approx(found["value"], abs=1e-6)
    assert [found["accuracy"], found["loss"]] == pytest.approx(found["stored"], rel=1e-4)
    assert found["same"]
    assert used["measured"] == pytest.approx(found["stored"], rel=1e-4)
    assert (used["rows"], used["same"]) == (40, True)
    assert used["columns"] == ["prediction", *(f"probability of {name}" for name in range(3))]
    assert set(found["params"]) == {"learning_rate", "units"}
    assert found["config"] == {**found["config"], **found["params"], "batch_size": 32, "epochs": 4}
    assert (found["trials"], found["rows"]) == (3, found["epochs"])
    assert found["columns"][:4] == ["trial", "state", "ended", "value"]
    assert {"trial", "epoch", "seconds", "loss", "val_loss", "accuracy", "val_accuracy"} <= set(found["metrics"])
    assert "3 of 3 trials, best val_accuracy" in found["text"]
    assert opened == {"equal": True, "name": "wine", "best": found["value"]}
    assert "python:data is an object of the Python program that made the study" in refused
    assert drawn["curves"] == [3, 2]
    stored = records.load(tmp_path / "wine.db", "wine")
    assert drawn["history"] == [trial.value for trial in sorted(stored.complete, key=lambda trial: trial.number)]
    assert drawn["parallel"] == ["val_accuracy", "learning_rate", "units"]
    assert drawn["slices"] == 2
    assert drawn["confusion"] == [40]  # all validation rows
    assert drawn["others"] == [4, 1, 1, 2]
    assert "importance can't be computed" in errors[0]
    assert "no trial has reported 'val_acuracy'; did you mean 'val_accuracy'?" in errors[1]
    assert "wine has 3 trials, from 0; received 7" in errors[2]
    # What the command line says of such a study.
    assert manyfit("show", "wine.db", cwd=tmp_path).returncode == 0
    again = manyfit("run", "wine.db", "--trials", "5", cwd=tmp_path)
    assert again.returncode == 2
    assert "object of the Python program" in again.stderr


@pytest.mark.gallery
@pytest.mark.parametrize("engine", ["fit", "lanes"])
def test_curves_are_those_of_the_same_study_as_a_file(tmp_path, engine):
    rows = """
        import numpy as np
        from sklearn.datasets import load_wine
        def load():
            wine = load_wine()
            return (wine.data / wine.data.max(0)).astype("float32"), wine.target
    """
    write(tmp_path, rows, name="rows.py")
    write(tmp_path, BUILD, name="builder.py")
    write(
        tmp_path,
        f"""
        [study]
        objective = "val_accuracy"
        trials = 3
        epochs = 3
        seed = 5
        [data]
        source = "rows.py:load"
        [model]
        build = "builder.py:build"
        [train]
        optimizer = "rmsprop"
        [space]
        learning_rate = {{ low = 1e-3, high = 1e-1, log = true }}
        units = {{ low = 4, high = 16 }}
        [run]
        engine = "{engine}"
        backend = "jax"
        """,
        name="file.toml",
    )
    assert manyfit("run", "file.toml", cwd=tmp_path).returncode == 0
    script = write(
        tmp_path,
        rows,
        BUILD,
        f"""
        import manyfit as mf
        study = mf.Study(
            build, load(), {{"learning_rate": mf.Float(1e-3, 1e-1, log=True), "units": mf.Int(4, 16)}}, "val_accuracy",
            trials=3, epochs=3, seed=5, train={{"optimizer": "rmsprop"}}, run={{"engine": "{engine}", "backend": "jax"}},
        )
        study.run(progress=False)
        """,
    )
    ran(script)
    of_file, of_program = records.load(tmp_path / "file.db", "file"), records.load(tmp_path / "study.db", "study")
    assert of_file.resolved["engine"] == of_program.resolved["engine"] == engine
    assert of_file.identity["data"]["fingerprint"] == of_program.identity["data"]["fingerprint"]
    assert [trial.params for trial in of_file.trials] == [trial.params for trial in of_program.trials]
    assert [trial.curve for trial in of_file.trials] == [trial.curve for trial in of_program.trials]
    assert all(len(trial.curve) == 3 for trial in of_program.trials)


@pytest.mark.gallery
def test_closures_lambdas_losses_and_metrics_reach_the_workers_and_are_compared(tmp_path):
    """A study goes on with equal objects, and refuses a changed closure, global, loss or metric by its name."""
    text = """
        import keras
        WIDTHS = [8, 4]

        def make(scale):
            def build(config, data):
                inputs = keras.Input(data.input_shape)
                h = inputs / scale
                for width in WIDTHS:
                    h = keras.layers.Dense(width, activation=config["activation"])(h)
                return keras.Model(inputs, keras.layers.Dense(data.outputs)(h))
            return build

        def error(y, output):
            return keras.ops.mean(keras.ops.square(y - output), axis=-1)

        class Bias(keras.metrics.Metric):
            def __init__(self):
                super().__init__(name="bias")
                self.total = self.add_weight(name="total", initializer="zeros")
            def update_state(self, y, output, sample_weight=None):
                self.total.assign(keras.ops.mean(output - keras.ops.cast(y, output.dtype)))
            def result(self):
                return self.total

        scale = x.max(0).astype("float32")
        rows = {key: value.astype("float32") for key, value in data.items()}

        def attempt(trials=1, build=make(scale), loss=error):
            study = mf.Study(
                build, mf.Data(rows, task="regression"), {"activation": ["relu", "tanh"]}, "val_mae", epochs=2, trials=trials,
                train={"loss": loss, "metrics": ["mae", Bias], "callbacks": [lambda config: keras.callbacks.TerminateOnNaN()]},
            )
            try:
                study.run(progress=False)
                print(json.dumps({"trials": len(study.trials), "metrics": [*study.curves.columns]}))
            except mf.IdentityError as refused:
                print(json.dumps(str(refused)))

        attempt()
        attempt(2, make(scale.copy()))
        attempt(3, make(scale + 1))
        WIDTHS = [8, 5]
        attempt(3)
        WIDTHS = [8, 4]
        def error(y, output):
            return keras.ops.mean(keras.ops.abs(y - output), axis=-1)
        attempt(3, loss=error)
        Bias.result = lambda self: self.total + 1
        attempt(3)
    """
    first, second, *refusals = ran(write(tmp_path, WINE, text))
    assert (first["trials"], second["trials"]) == (1, 2)
    assert {"val_mae", "val_bias", "loss"} <= set(first["metrics"])
    identity = records.load(tmp_path / "study.db", "study").identity
    assert identity["model"]["build"] == "python:build"
    assert {"python:build", "python:build: scale", "python:WIDTHS", "python:error", "python:Bias.result"} <= set(
        identity["model"]["files"]
    )
    assert "" not in identity["model"]["files"].values()
    end = "give the changed study another name, or change it back (trials, time and stop_after may change)"
    words = "  model.source: the builder's source has changed: python:"
    assert [refused.splitlines()[1:] for refused in refusals] == [
        [f"{words}build: scale", end],
        [f"{words}WIDTHS", end],
        [f"{words}error", end],
        [f"{words}Bias.result", end],
    ]


@pytest.mark.gallery
def test_a_script_needs_no_main_guard_and_an_interrupt_stops_it_cleanly(tmp_path):
    """SIGINT ends a script as Python ends interrupted scripts; running it again goes on, and nothing runs twice."""
    script = write(
        tmp_path,
        WINE,
        BUILD,
        """
        print("started", flush=True)
        study = mf.Study(
            build, mf.Data(data, scale="standard"), {"learning_rate": mf.Float(1e-3, 1e-1, log=True), "units": [8, 16]},
            "val_accuracy", trials=6, epochs=400, search={"pruner": "none"}, run={"engine": "fit", "backend": "jax"},
        )
        if study.path.exists():
            study = mf.Study(
                build, mf.Data(data, scale="standard"), {"learning_rate": mf.Float(1e-3, 1e-1, log=True), "units": [8, 16]},
                "val_accuracy", trials=2, epochs=400, search={"pruner": "none"}, run={"engine": "fit", "backend": "jax"},
            )
        study.run()
        print("ended", len(study.trials), flush=True)
        """,
    )
    process = subprocess.Popen(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: _epochs(tmp_path / "study.db") > 3, "an epoch is stored", timeout=200)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130), error
    assert out == "started\n"  # not in a worker, too
    assert "KeyboardInterrupt: stopped with" in error
    assert error.rstrip().endswith("and run() goes on")
    before = records.load(tmp_path / "study.db", "study")
    assert before.trials[0].state == "WAITING"
    curve = list(before.trials[0].curve)
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "started\nended 2\n"
    after = records.load(tmp_path / "study.db", "study")
    assert [trial.number for trial in after.trials] == [0, 1]
    assert after.trials[0].curve[: len(curve)] == curve
    assert [len(trial.curve) for trial in after.trials] == [400, 400]


def _epochs(database: Path) -> int:
    if not database.exists():
        return 0
    try:
        return sum(len(trial.curve) for trial in records.load(database, "study").trials)
    except Exception:  # it is being made
        return 0


@pytest.mark.gallery
def test_modules_of_the_program_win_over_ours_of_the_same_names(tmp_path):
    """`models.py`, `search.py` and `spaces.py` beside a script are its own, before, in and after our calls, in workers, too."""
    write(tmp_path, BUILD, name="models.py")
    write(tmp_path, "UNITS = [4, 8]", name="search.py")
    write(
        tmp_path,
        "from models import build\n\ndef deeper(config, data):\n    return build(config, data)",
        name="spaces.py",
    )
    script = write(
        tmp_path,
        WINE,
        """
        from models import build
        import search
        assert search.UNITS == [4, 8]
        study = mf.Study(lambda config, data: build(config, data), data, {"units": search.UNITS}, "val_accuracy", epochs=1)
        study.run(1, progress=False)
        from spaces import deeper
        other = mf.Study(deeper, data, {"units": search.UNITS}, "val_accuracy", epochs=1, name="other")
        other.run(1, progress=False)
        print(json.dumps([len(study.trials), len(other.trials), other.best.params["units"] in search.UNITS]))
        model = other.best.model()
        print(json.dumps(abs(model.evaluate(x[100:140], y[100:140], verbose=0)[1] - other.best.value) < 1e-6))
        """,
    )
    assert ran(script) == [[1, 1, True], True]
    files = records.load(tmp_path / "study.db", "study").identity["model"]["files"]
    assert set(files) == {"python:build", "models.py"}
    other = records.load(tmp_path / "other.db", "other")
    assert other.file.settings.model.build == "spaces.py:deeper"
    assert set(other.identity["model"]["files"]) == {"spaces.py", "models.py"}
    # The command line can go on with a study whose functions stand in files only if its data do, too.
    assert "data.source: python:data is an object" in manyfit("run", "other.db", cwd=tmp_path).stderr


@pytest.mark.gallery
def test_failing_builders_and_bad_rows_are_told_as_the_command_line_tells_them(tmp_path):
    script = write(
        tmp_path,
        WINE,
        BUILD,
        """
        def attempt(**given):
            try:
                mf.Study(**{"build": build, "data": data, "space": {"units": [4, 8]}, "epochs": 1, **given}).run(1, progress=False)
            except Exception as error:
                print(json.dumps([type(error).__name__, str(error).splitlines()[0]]))
        attempt(data=(x, y[:-1]))
        gaps = x.copy()
        gaps[3, 2] = np.nan
        attempt(data=(gaps, y))
        attempt(data=lambda: 1 / 0)
        attempt(space={"units": [4, 8], "untis": [1, 2]})
        attempt(build=lambda config, data: config["nothing"])
        """,
    )
    assert ran(script) == [
        ["DataError", "python:data: 178 rows of features but 177 labels in train; there must be one for each"],
        [
            "DataError",
            "python:data, row 3 of x (counted from 0): feature 2 is nan; all must be finite (and at most 3.4e38): fill in or remove such rows",
        ],
        [
            "DataError",
            "the program: data raised ZeroDivisionError: division by zero; mend the function and try again",
        ],
        [
            "UsageError",
            "space.untis: parameter 'untis' is read by nothing: neither by training nor by the builder; python:build reads units; did you mean 'units'?",
        ],
        [
            "ManyfitError",
            "every trial failed, the last one by: KeyError: 'nothing'; mend the cause and use run() again: with a changed builder the study begins anew; else run(trials=2) tries 1 more",
        ],
    ]


HYPERMODEL = """
widest = 16

class Small:
    def build(self, hp):
        import keras
        model = keras.Sequential([keras.layers.Dense(hp.Int(f"units_{i}", 8, widest, step=8), "relu") for i in range(hp.Int("depth", 1, 2))])
        model.add(keras.layers.Dense(3, "softmax"))
        model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-1, sampling="log")), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

def broken(hp):
    raise ValueError(f"no {hp.Int('units', 1, 4)}")
"""


@pytest.mark.gallery
def test_the_space_of_a_builder_of_hp_is_found(tmp_path):
    """A HyperModel's instance with a closure over the program; the study goes on, and errors name the argument."""
    script = write(
        tmp_path,
        WINE,
        HYPERMODEL,
        """
        def study(build, name="found", **options):
            return mf.Study(build, mf.Data(data, scale="standard"), objective="val_accuracy", name=name, epochs=1, **options)

        first = study(Small(), trials=2)
        before = first.space
        first.run(progress=False)
        again = study(Small(), trials=3)
        again.run(progress=False)
        print(json.dumps([before, [*first.space], first.space["units_1"].when, first.space["units_0"].high]))
        print(json.dumps([len(again.trials), mf.load("found.db").trials.iloc[0]["params.depth"].item()]))
        found = []
        for change in (lambda: study(broken, "bad").run(progress=False), lambda: study(lambda config, data: 0, "two"),
                       lambda: study(Small(), "odd", direction="up"), lambda: study(3, "three")):
            try:
                change()
            except mf.UsageError as error:
                found.append(str(error))
        print(json.dumps(found))
        """,
    )
    first, second, errors = ran(script)
    assert first == [{}, ["depth", "units_0", "lr", "units_1"], {"depth": [2]}, 16]
    assert second == [3, 1]
    assert errors[0].startswith("build: the builder fails with its default values")
    assert errors[1].startswith("space: missing; give one such as")
    assert errors[2].startswith("direction: ")
    assert errors[3].startswith("build: must be a function (config, data) -> keras.Model, one in KerasTuner's form")


def test_a_study_file_can_not_name_objects(tmp_path):
    for text in (
        '[data]\nsource = "python:data"\n',
        '[data]\nsource = "sklearn:wine"\n[model]\nbuild = "python:build"\n',
    ):
        write(tmp_path, text + "[space]\nlearning_rate = { low = 0.1, high = 0.2 }\n", name="file.toml")
        done = manyfit("run", "file.toml", cwd=tmp_path)
        assert done.returncode == 2
        assert "is an object of the Python program that made the study, and no file holds it" in done.stderr
