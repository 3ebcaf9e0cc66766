"""Exported models open with Keras alone, on TensorFlow and on JAX, and give the study's values on the source's own rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import BROUGHT, PROGRAMS, manyfit, ran, told

from search.engines.devices import Device
from search.storage.records import load

# Many models in few processes: together they take long where other tests run beside them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Keras and nothing of ours: whatever the installation would find is shut out.
OPEN = PROGRAMS / "open_exported.py"


def environment(backend: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **Device().environment(backend)}


def opened(paths: list[str], backend: str) -> dict[str, dict]:
    """Open files in a process that has Keras and nothing of ours."""
    done = subprocess.run(
        [sys.executable, "-I", OPEN, *paths],
        env=environment(backend),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def exported(
    folder: Path, program: Callable[..., object], *arguments: object, backend: str = "tensorflow"
) -> dict[str, dict]:
    """Export into a folder what a function with export_kit exports; return what it says of each."""
    return told(ran(program, *arguments, backend=backend, cwd=folder, timeout=2400))


def check_with_keras_alone(found: dict[str, dict], backends: tuple[str, ...] = ("tensorflow", "jax")) -> None:
    """Each file opens and evaluates to what its study has; what is left out is told."""
    paths = [case["path"] for case in found.values()]
    check_values(found, *(opened(paths, backend) for backend in backends))


def check_values(found: dict[str, dict], *by_backend: dict[str, dict]) -> None:
    """What files evaluate to is what their studies have; what is left out is told."""
    cases = {case["path"]: case for case in found.values()}
    for seen_by_path in by_backend:
        assert seen_by_path.keys() >= cases.keys()
        for path, case in cases.items():
            seen = seen_by_path[path]
            values = seen.get("values", {})
            assert set(values) == {name.removeprefix("val_") for name in case["of_file"]}, path
            for name, value in values.items():
                # Rows that the model scales itself are rounded elsewhere than rows that were scaled in float64.
                rel, abs_ = (1e-5, 1e-6) if not case["is_scaled"] else (2e-4, 2e-5)
                assert value == pytest.approx(case["values"][f"val_{name}"], rel=rel, abs=abs_, nan_ok=True), (
                    path,
                    name,
                )
                assert value == pytest.approx(case["study"][name], rel=rel, abs=abs_, nan_ok=True), (path, name)
            for name in set(case["study"]) - set(values):
                assert any(
                    line.startswith(f"{name} is left out") or "not compiled" in line for line in case["lines"]
                ), name


def small_cases():
    from export_kit import SOURCES, export_all

    return export_all(
        {
            "defaults": {"data_section": SOURCES["binary"]},
            "binary_logits": {
                "data_section": SOURCES["binary"],
                "metrics": ["accuracy", "auc", "precision", "recall", "f1_score"],
                "schedule": "cosine",
                "warmup": 0.1,
                "optimizer": "adamw",
            },
            "binary_smoothed": {
                "data_section": SOURCES["binary"],
                "label_smoothing": 0.2,
                "optimizer": "sgd",
                "momentum": 0.9,
            },
            "binary_threshold": {
                "data_section": SOURCES["binary"],
                "metrics": [{"name": "BinaryAccuracy", "threshold": 0.7}, "auc"],
                "loss": "binary_focal_crossentropy",
            },
            "binary_probabilities": {
                "data_section": SOURCES["binary"],
                "model": {"build": "own.py:build"},
                "metrics": ["accuracy", "auc", "precision", "recall"],
                "schedule": "linear",
            },
            "classes_logits": {"data_section": SOURCES["classes"], "schedule": "exponential", "optimizer": "lion"},
            "classes_smoothed": {"data_section": SOURCES["classes"], "label_smoothing": 0.1, "warmup": 0.5},
            "classes_probabilities": {
                "data_section": SOURCES["classes"],
                "model": {"build": "own.py:build"},
                "metrics": [
                    "accuracy",
                    {"name": "TopKCategoricalAccuracy", "k": 2},
                    {"name": "SparseTopKCategoricalAccuracy", "k": 2},
                ],
            },
            "numbers": {"data_section": SOURCES["numbers"], "metrics": ["mae", "mse"], "schedule": "cosine"},
            "numbers_huber": {
                "data_section": SOURCES["numbers"],
                "loss": {"name": "Huber", "delta": 0.5},
                "metrics": ["mae", "cosine_similarity"],
            },
        }
    )


@pytest.mark.gallery
def test_files_of_every_task_open_with_keras_alone_and_give_the_studys_values(tmp_path):
    found = exported(tmp_path, small_cases)
    check_with_keras_alone(found)
    # All is Keras's own but what needs probabilities, and for that there is a recipe.
    lines = {
        name: [line for line in case["lines"] if "left out" in line or "compiled" in line]
        for name, case in found.items()
    }
    told = "compute it by keras.metrics.F1Score(average='macro', threshold=0.5) of labels.reshape(-1, 1) and sigmoid of model.predict(x)"
    assert lines.pop("binary_logits") == [f"f1_score is left out of the file: {told}"]
    assert not any(lines.values()), lines
    assert "evaluate takes one-hot labels, as its loss does" in found["classes_smoothed"]["lines"]
    assert {name: case["of_file"] for name, case in found.items()}["binary_threshold"] == [
        "val_auc", "val_binary_accuracy", "val_loss",
    ]  # fmt: skip


def cases_of_rates():
    from export_kit import SOURCES, export_all

    return export_all(
        {
            "scheduled": {"data_section": SOURCES["numbers"], "schedule": "cosine", "config": {"learning_rate": 0.1}},
            "warmed": {"data_section": SOURCES["numbers"], "warmup": 0.5, "config": {"learning_rate": 0.1}},
            "constant": {"data_section": SOURCES["numbers"], "config": {"learning_rate": 0.1}},
            "default": {"data_section": SOURCES["numbers"]},
        }
    )


@pytest.mark.gallery
def test_a_scheduled_rate_is_written_as_the_best_epochs_and_a_constant_one_as_it_is(tmp_path):
    found = exported(
        tmp_path,
        cases_of_rates,
    )
    rates = {Path(path).stem: seen["rate"] for path, seen in opened([c["path"] for c in found.values()], "jax").items()}
    assert rates == pytest.approx({"scheduled": 0.005, "warmed": 0.005, "constant": 0.1, "default": 0.001})


def cases_of_own_code():
    import numpy as np
    from export_kit import FOLDER, SOURCES, export_all

    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 4))
    y = x @ [1.0, -2.0, 0.5, 0.0] + 1
    wide = x * [1.0, 1e-9, 1e6, 1.0] + [0.0, 0.0, 1e6, 5.0]
    wide[:, 3] = 5.0
    steep = x + np.array([1.7e9, 0.0, 0.0, 0.0])
    np.savez(FOLDER / "wide.npz", x=wide, y=y)
    np.savez(FOLDER / "steep.npz", x=steep, y=y)
    np.savez(FOLDER / "whole.npz", x=rng.integers(0, 1000, (80, 4)), y=y)
    np.savez(
        FOLDER / "bytes.npz", x=rng.integers(0, 256, (80, 5, 5, 3)).astype("uint8"), y=np.eye(3)[np.arange(80) % 3]
    )
    np.savez(FOLDER / "names.npz", x=x, y=np.array(["cat", "dog"])[(x[:, 0] > 0).astype(int)])

    def case(builder, source="wide.npz", scale="standard", **more):
        return {"data_section": {"source": source, "scale": scale}, "model": {"build": f"users.py:{builder}"}, **more}

    return export_all(
        {
            "functional": case("functional"),
            "functional_minmax": case("functional", scale="minmax"),
            "whole_numbers": case("functional", source="whole.npz"),
            "layers": case("layers"),
            "lambdas": case("lambdas"),
            "stepping": case("stepping"),
            "stepping_unscaled": case("stepping", scale="none", source="whole.npz"),
            "steep": case("functional", source="steep.npz"),
            "images": case("image", source="bytes.npz", scale="none"),
            "images_smoothed": case("image", source="bytes.npz", scale="none", label_smoothing=0.1),
            "names": case("functional", source="names.npz"),
            "own_loss": case("functional", loss="users.py:double"),
            "own_metric": case("functional", metrics=["mae", "users.py:double"]),
            "compiled": case("compiled", config={"own": False, "own_metric": False}),
            "compiled_unscaled": case("compiled", scale="none", config={"own": False, "own_metric": False}),
            "compiled_with_own_loss": case("compiled", config={"own": True, "own_metric": False}),
            "compiled_with_own_metric": case("compiled", config={"own": False, "own_metric": True}),
            "bfloat16": {"data_section": SOURCES["binary"], "precision": "mixed_bfloat16"},
        }
    )


def cases_of_names():
    from export_kit import FOLDER, SOURCES, export_all

    shutil.copy(BROUGHT / "exported.py", FOLDER / "users.py")

    def case(builder, **more):
        return {"data_section": SOURCES["numbers"], "model": {"build": f"users.py:{builder}"}, **more}

    return export_all(
        {
            "named": case("named", metrics=["mae"]),
            "several_numbers": case("functional", metrics=["mae", "users.py:PerQuarter"]),
            "by_name": case("named_compiled", config={"optimizer": "sgd"}),
        }
    )


def sample_cases():
    return [cases_of_names(), cases_of_two_outputs(), cases_of_flat_labels()]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> tuple[list[dict[str, dict]], dict[str, dict]]:
    """Files of all samples, exported by one process, and what Keras alone sees in them, in another."""
    found = exported(tmp_path_factory.mktemp("samples"), sample_cases, backend="jax")
    return found, opened([case["path"] for cases in found for case in cases.values()], "jax")


@pytest.mark.gallery
def test_an_output_with_a_name_is_compiled_and_each_metric_left_out_is_told_once(samples):
    (found, _, _), seen = samples
    check_values(found, seen)
    assert {name: case["of_file"] for name, case in found.items()} == {key: ["val_loss", "val_mae"] for key in found}
    left = {name: [line for line in case["lines"] if "left out" in line] for name, case in found.items()}
    assert left == {
        "named": [],
        "several_numbers": [
            "per_quarter is left out of the file: it is code of yours; compile the model with it after loading"
        ],
        "by_name": ["double is left out of the file: it is code of yours"],
    }


def cases_of_two_outputs():
    import numpy as np
    from export_kit import FOLDER, export_all

    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype("float32")
    y = (x[:, 0] > 0).astype(int)
    for name, labels in {"flat": y, "column": y[:, None], "rows": np.eye(2)[y]}.items():
        np.savez(FOLDER / f"of_{name}.npz", x=x, y=labels)
    (FOLDER / "two.py").write_text(
        "import keras\ndef build(config, data):\n    return keras.Sequential([keras.Input(data.input_shape),\n"
        "        keras.layers.Dense(2, activation=config.get('end'))])\n"
    )

    def case(source, end="softmax", **more):
        model = {"build": "two.py:build", "end": end}
        return {"data_section": {"source": f"of_{source}.npz"}, "model": model, **more}

    return export_all(
        {
            "flat": case("flat"),
            "rows": case("rows"),
            "column": case("column"),
            "smoothed": case("flat", label_smoothing=0.2),
            "not_smoothed": case("flat", label_smoothing=0.0),
            "smoothed_rows": case("rows", "linear", label_smoothing=0.2),
        }
    )


@pytest.mark.gallery
def test_two_outputs_for_two_classes_are_compiled_with_the_loss_that_trained_them(samples):
    """The samples: "flat" and "rows" were not compiled, for Keras would have no such loss."""
    (_, found, _), seen = samples
    check_values(found, seen)
    assert all(case["of_file"] == ["val_accuracy", "val_loss"] for case in found.values())
    lines = {name: case["lines"] for name, case in found.items() if case["lines"]}
    assert lines == {"smoothed": ["evaluate takes one-hot labels, as its loss does"]}


def cases_of_flat_labels():
    import numpy as np
    from export_kit import FOLDER, export_all

    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype("float32")
    np.savez(FOLDER / "bits.npz", x=x, y=(x[:, 0] > 0).astype(int))
    np.savez(FOLDER / "classes.npz", x=x, y=(x[:, 0] > 0).astype(int) + (x[:, 1] > 0))

    def case(source, *metrics, **more):
        return {"data_section": {"source": f"{source}.npz"}, "metrics": list(metrics), **more}

    own = {"model": {"build": "own.py:build"}}
    rows = ("f1_score", "binary_crossentropy", "hinge", "squared_hinge")
    return export_all(
        {
            "logits": case("bits", *rows),
            "probabilities": case("bits", *rows[:2], {"name": "fbeta_score", "beta": 2, "threshold": 0.3}, **own),
            "classes": case("classes", "f1_score", "categorical_hinge"),
        }
    )


# Follows each recipe to the letter.
FOLLOW = PROGRAMS / "follow_recipes.py"


@pytest.mark.gallery
def test_recipe_for_a_metric_of_flat_labels_gives_the_number_of_the_study(samples):
    """The sample: "Keras has no object that gives it", of metrics that take a column."""
    (_, _, found), seen = samples
    check_values(found, seen)
    recipes, expected = {}, {}
    for case in found.values():
        left_out = [line.split(" is left out of the file: ") for line in case["lines"]]
        recipes[case["path"]] = dict(left_out)
        expected |= {f"{case['path']} {name}": case["study"][name] for name, _ in left_out}
    assert [list(left_out) for left_out in recipes.values()] == [
        ["f1_score", "binary_crossentropy", "hinge", "squared_hinge"],
        ["f1_score", "binary_crossentropy", "fbeta_score"],
        ["f1_score", "categorical_hinge"],
    ]
    done = subprocess.run(
        [sys.executable, "-I", FOLLOW, json.dumps(recipes)],
        env=environment("jax"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(expected, rel=1e-5)
    logits = recipes[found["logits"]["path"]]
    assert logits["hinge"] == "compute it by keras.metrics.Hinge of labels.reshape(-1, 1) and model.predict(x)"


@pytest.mark.gallery
def test_files_hold_scaling_and_leave_the_users_own_code_out_or_say_so(tmp_path):
    shutil.copy(BROUGHT / "exported.py", tmp_path / "users.py")
    found = exported(tmp_path, cases_of_own_code)
    lines = {name: " | ".join(case["lines"]) for name, case in found.items()}
    inside = "it takes rows as the source has them: the scaling {} is inside".format
    for name, case in found.items():
        expected = "" if not case["is_scaled"] else inside('"minmax"' if "minmax" in name else '"standard"')
        if name == "steep":
            expected = "scaling is NOT inside (float32 has too few digits for these rows): the model takes rows scaled by data.scale"
        if name.startswith("images"):
            expected = "it takes rows as the source has them: the division by 255 is inside"
        assert lines[name].startswith(expected), name
    assert "classes are numbers: 0 is cat, 1 is dog" in lines["names"]
    # What is the user's own is left out, and what needs it names it.
    assert 'it needs code of yours: load_model(path, custom_objects={"Gain": Gain})' in lines["layers"]
    assert "safe_mode=False" in lines["lambdas"]
    assert "the model is not compiled, for loss would be wrong (from the file it is" in lines["stepping"]
    for name in ("own_loss", "compiled_with_own_loss"):
        assert "the model is not compiled, for the loss is code of yours; compile it after loading" in lines[name]
    for name in ("own_metric", "compiled_with_own_metric"):
        assert "double is left out of the file: it is code of yours" in lines[name]
    evaluated = {name: case["of_file"] for name, case in found.items()}
    numbers, classes = ["val_loss", "val_mae"], ["val_accuracy", "val_loss"]
    assert evaluated == {
        **dict.fromkeys(found, numbers),
        **dict.fromkeys(("images", "images_smoothed", "names", "bfloat16"), classes),
        **{name: [] for name in ("lambdas", "stepping", "own_loss", "compiled_with_own_loss")},
    }
    # What rounds to bfloat16 rounds otherwise on another backend, and what needs the user's code is not opened without it.
    apart = ("layers", "lambdas", "stepping", "stepping_unscaled", "bfloat16")
    check_with_keras_alone({name: case for name, case in found.items() if name not in apart}, backends=("jax",))


STUDIES = {
    "defaults": """
[study]
trials = 2
epochs = 2
[data]
source = "sklearn:breast_cancer"
[space]
learning_rate = { low = 1e-3, high = 1e-1, log = true }
""",
    "lanes": """
[study]
objective = "val_accuracy"
trials = 2
epochs = 2
[data]
source = "sklearn:digits"
limit = 300
scale = "minmax"
[model]
units = [8]
[train]
schedule = "cosine"
optimizer = "adamw"
[space]
learning_rate = { low = 1e-3, high = 1e-1, log = true }
[run]
engine = "lanes"
""",
    "table": """
[study]
objective = "val_mae"
trials = 2
epochs = 2
[data]
source = "rows.csv"
target = "price"
scale = "standard"
[train]
warmup = 0.2
[space]
learning_rate = { low = 1e-3, high = 1e-1, log = true }
[run]
engine = "fit"
""",
}


@pytest.mark.parametrize(
    "name", ["lanes", *(pytest.param(name, marks=pytest.mark.gallery) for name in ("defaults", "table"))]
)
def test_the_command_writes_a_file_that_keras_alone_evaluates_on_raw_rows(tmp_path, name):
    """Raw rows are read here as a user reads them, and the validation rows among them found by the study's own split."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3)) * [1.0, 1000.0, 0.01] + [0.0, 5000.0, 3.0]
    rows = np.column_stack([x, x @ [2.0, 0.001, 100.0] + rng.normal(size=120)])
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="size,area,age,price", comments="", fmt="%.17g")
    path = tmp_path / f"{name}.toml"
    path.write_text(STUDIES[name])
    done = manyfit("run", path, timeout=280)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "best.keras"
    done = manyfit("export", path, "--model", file)
    assert done.returncode == 0, done.stderr
    stored = load(path.with_suffix(".db"), name)
    best, objective = stored.complete[0], stored.file.settings.study.objective
    section = stored.file.settings.data
    if name == "table":
        x, y = rows[:, :3], rows[:, 3]
    else:
        from sklearn import datasets

        x, y = getattr(datasets, f"load_{section.source.removeprefix('sklearn:')}")(return_X_y=True)
        x = x / 16 if name == "lanes" else x  # as the docs say
    x, y = _validation_rows(x, y, stored)
    np.savez(tmp_path / "best.rows.npz", x=x, y=y)
    assert f"{objective} {best.value:.5g}, evaluated once more (in the study: {best.value:.5g})" in done.stderr
    assert "warning" not in done.stderr
    assert ("takes rows as the source has them" in done.stderr) == (name != "defaults")
    assert "trained fully: " in done.stderr
    # Lanes have trained on the other one.
    for backend in ("tensorflow",) if name == "lanes" else ("tensorflow", "jax"):
        ((_, seen),) = opened([str(file)], backend).items()
        assert seen["values"][objective.removeprefix("val_")] == pytest.approx(best.value, rel=1e-4)
        if stored.file.settings.train.numbers:
            recorded = best.curve[best.best_epoch - 1]["learning_rate"]
            assert seen["rate"] == pytest.approx(recorded)


SCALED = """
import pathlib
import keras

@keras.saving.register_keras_serializable()
class Noise(keras.layers.Layer):
    def build(self, shape):
        self.seeds = keras.random.SeedGenerator(0)
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)

def build(config, data):
    factor = float(pathlib.Path(__file__).with_name("factor.txt").read_text())
    noise = [Noise()] if config["noise"] else []
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Rescaling(factor), *noise, keras.layers.Dense(1)])
"""


@pytest.mark.gallery
def test_model_that_is_not_its_trials_any_more_is_told(tmp_path):
    """The sample: a file that the builder reads had changed, and the command drew no conclusion from the other value."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    np.savez(tmp_path / "d.npz", x=x, y=(x @ [1.0, 2.0, 3.0] > 0).astype(int))
    (tmp_path / "own.py").write_text(SCALED)
    (tmp_path / "factor.txt").write_text("1.0")
    path = tmp_path / "scaled.toml"
    path.write_text(
        """
[study]
trials = 2
epochs = 2
[data]
source = "d.npz"
[model]
build = "own.py:build"
[space]
noise = [false, true]
[run]
engine = "fit"
backend = "jax"
"""
    )
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    trials = {trial.config["noise"]: trial for trial in load(path.with_suffix(".db"), "scaled").trials}

    def warning(noise: bool) -> str:
        file = tmp_path / "best.keras"
        done = manyfit("export", path, "--model", file, "--trial", trials[noise].number)
        assert done.returncode == 0, done.stderr
        assert "written: " in done.stderr
        return " ".join(done.stderr.partition("warning: ")[2].partition("written: ")[0].split())

    assert warning(noise=False) == ""
    # Each evaluation draws other numbers: the hint names this cause.
    assert "Or the model draws random numbers when it is evaluated" in warning(noise=True)
    (tmp_path / "factor.txt").write_text("1.1")
    text = warning(noise=False)
    assert text.startswith(f"val_loss of trial {trials[False].number}'s model is ")
    assert f" and was {trials[False].value:.5g} in the study" in text
    assert "is not the trial's any more" in text


def _validation_rows(x: np.ndarray, y: np.ndarray, stored) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows that a study was judged by: scikit-learn's splits, test rows first, as the docs say."""
    from sklearn.model_selection import train_test_split

    section, state = stored.file.settings.data, int(np.random.SeedSequence([0, 7]).generate_state(1)[0])
    is_classes = stored.name != "table"
    index = np.arange(len(x))
    if section.limit:
        _, index = train_test_split(index, test_size=section.limit, random_state=state, stratify=y)
    total = len(index)
    for fraction in (section.test, section.validation):
        count = max(1, round(fraction * total))
        index, taken = train_test_split(
            index, test_size=count, random_state=state, stratify=y[index] if is_classes else None
        )
    return x[taken], y[taken]


def gallery(task, model, part):
    from export_kit import export_gallery

    return export_gallery(task, model, part)


@pytest.mark.gallery
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", ["losses", "metrics"])
@pytest.mark.parametrize("model", [None, {"build": "own.py:build"}], ids=["logits", "activated"])
@pytest.mark.parametrize("task", ["binary", "classes", "numbers"])
def test_every_loss_metric_optimizer_and_schedule_of_keras_opens_with_keras_alone(tmp_path, task, model, part):
    told = exported(tmp_path, gallery, task, model, part)
    print(*(f"{name}: {why}" for name, why in told["refused"].items()), sep="\n")
    print(*(f"{name}: {case['of_file']} {case['lines']}" for name, case in told["found"].items()), sep="\n")
    assert len(told["found"]) >= 3, told["refused"]
    # Keras on TensorFlow computes these of the logits that it remembers of a softmax, as if they were those of sigmoids.
    of_tensorflow = {
        name: told["found"].pop(name)
        for name in list(told["found"])
        if (task, part) == ("classes", "losses") and model and name.startswith("Binary")
    }
    check_with_keras_alone(told["found"])
    check_with_keras_alone(of_tensorflow, backends=("tensorflow",))
