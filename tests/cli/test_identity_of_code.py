"""What a study's numbers come from stays the same between two commands: Keras's configuration, the builder, its modules."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support import manyfit, toml, write_study

from search.storage.records import load

STUDY = """
[study]
objective = "val_loss"
trials = {trials}
epochs = 1
[data]
source = "my_data.py:rows"
[model]
build = "my_model.py:build"
[space]
width = [4, 4.5, 5]
[search]
sampler = "random"
pruner = "none"
[run]
engine = "fit"
backend = "jax"
"""

DATA = """
import numpy as np
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 8, 6, 1)).astype("float32"), np.arange(60) % 2
"""

# The number of parameters of the model, and what it was made with, is the loss.
MODEL = """
import json, pathlib
import keras
def build(config, data):
    told = {
        "floatx": keras.config.floatx(), "epsilon": keras.config.epsilon(), "home": keras.src.backend.config.keras_home(),
        "format": keras.config.image_data_format(), "max": [keras.config.max_epochs(), keras.config.max_steps_per_epoch()],
        "nnx": keras.src.backend.config.is_nnx_enabled(),
    }
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Conv2D(int(config["width"]), 3),
                              keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(1)])
    import jax
    told |= {"x64": jax.config.jax_enable_x64, "precision": jax.config.jax_default_matmul_precision,
             "parameters": model.count_params()}
    with (pathlib.Path(__file__).parent / "told.jsonl").open("a") as file:
        file.write(json.dumps(told) + "\\n")
    # What one builder sets does not reach the next trial.
    keras.config.set_epsilon(0.5)
    keras.config.set_image_data_format("channels_first")
    keras.config.set_max_epochs(7)
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    return model
"""


def folder_of(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / f"{name}.py").write_text(text)
    return path


@pytest.mark.gallery
@pytest.mark.slow
def test_keras_json_and_variables_that_change_between_two_commands_change_nothing(tmp_path):
    """The sample: channels_first between two commands gave trial 1 another model than trial 0."""
    folder_of(tmp_path, my_data=DATA, my_model=MODEL)
    path = write_study(tmp_path, STUDY.format(trials=1), name="pinned")
    home = tmp_path / "keras"
    home.mkdir()
    assert manyfit("run", path, "--set", "space.width=[4]", env={"KERAS_HOME": str(home)}).returncode == 0
    assert list(home.iterdir()) == []
    first = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    (home / "keras.json").write_text(
        json.dumps({"image_data_format": "channels_first", "floatx": "float64", "epsilon": 0.1, "nnx_enabled": True})
    )
    variables = {
        "KERAS_HOME": str(home),
        "KERAS_MAX_EPOCHS": "1",
        "KERAS_MAX_STEPS_PER_EPOCH": "1",
        "KERAS_NNX_ENABLED": "1",
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    }
    done = manyfit(
        "run", path, "--set", "space.width=[4]", "--set", "search.duplicates=true", "--name", "other", env=variables
    )
    assert done.returncode == 0, done.stderr
    second = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()][len(first) :]
    pinned = {
        "floatx": "float32", "epsilon": 1e-7, "format": "channels_last", "max": [None, None], "nnx": False,
        "x64": False, "precision": None, "home": str(home), "parameters": 4 * 10 + 4 * 4 + (6 * 4 * 4 + 1),
    }  # fmt: skip
    assert first == [pinned] * len(first)
    assert second == [pinned] * len(second)
    curves = [load(tmp_path / "pinned.db", name).trials[0].curve for name in ("pinned",)]
    assert curves[0] == load(tmp_path / "pinned.db", "pinned").trials[0].curve


@pytest.mark.slow
@pytest.mark.gallery
def test_trial_of_the_same_config_is_the_same_whatever_keras_json_says_in_between(tmp_path):
    folder_of(tmp_path, my_data=DATA, my_model=MODEL)
    path = write_study(tmp_path, STUDY.format(trials=2).replace("[4, 4.5, 5]", "[4, 5]"), name="two")
    home = tmp_path / "keras"
    home.mkdir()
    (home / "keras.json").write_text(json.dumps({"image_data_format": "channels_first"}))
    assert manyfit("run", path, "--trials", 1, env={"KERAS_HOME": str(home)}).returncode == 0
    (home / "keras.json").write_text("{}")
    assert manyfit("run", path, env={"KERAS_HOME": str(home)}).returncode == 0
    both = [trial.curve for trial in load(path.with_suffix(".db"), "two").trials]
    alone = write_study(tmp_path, path.read_text(), name="alone")
    assert manyfit("run", alone).returncode == 0
    assert both == [trial.curve for trial in load(alone.with_suffix(".db"), "alone").trials]
    counts = {json.loads(line)["parameters"] for line in (tmp_path / "told.jsonl").read_text().splitlines()}
    assert counts == {153, 191}


LAZY = """
import keras
def build(config, data):
    import importlib
    from parts import tail
    if config["width"] == 5:
        import never_reached_in_the_middle
    block = importlib.import_module("block")
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(),
                             keras.layers.Dense(block.UNITS), *tail.layers(), keras.layers.Dense(1)])
"""


def lazy_folder(path: Path) -> Path:
    folder_of(path, my_data=DATA, my_model=LAZY, block="UNITS = 4\n", never_reached_in_the_middle="X = 1\n")
    (path / "parts").mkdir()
    (path / "parts" / "__init__.py").write_text("")
    (path / "parts" / "tail.py").write_text(
        "from .inner import activation\nimport keras\ndef layers(): return [activation()]\n"
    )
    (path / "parts" / "inner.py").write_text("import keras\ndef activation(): return keras.layers.ReLU()\n")
    return path


@pytest.mark.slow
def test_module_that_is_imported_inside_of_build_is_a_part_of_the_study(tmp_path):
    """The sample: 4 units became 64 between two commands, and both were in one table."""
    lazy_folder(tmp_path)
    path = write_study(tmp_path, STUDY.format(trials=1), name="lazy")
    assert manyfit("run", path, "--allow-unused").returncode == 0
    changes = {
        "block.py": "UNITS = 64\n",
        "parts/inner.py": "import keras\ndef activation(): return keras.layers.ELU()\n",
        "parts/__init__.py": "X = 1\n",
        "never_reached_in_the_middle.py": "X = 2\n",
    }
    for name, text in changes.items():
        file = tmp_path / name
        before = file.read_text()
        file.write_text(text)
        # A finished study, and, for two of the files, one that would go on.
        for trials in (1, 2) if name in ("block.py", "parts/__init__.py") else (1,):
            done = manyfit("run", path, "--trials", trials)
            assert done.returncode == 2, (name, done.stderr)
            assert f"model.source: the builder's source has changed: {name}" in done.stderr
            assert ("starting" in done.stderr) == (trials == 2)  # a finished one needs no worker for that
        file.write_text(before)
    assert manyfit("run", path, "--trials", 2).returncode == 0
    assert len(load(path.with_suffix(".db"), "lazy").trials) == 2


COMPUTED = """
import importlib, sys
from pathlib import Path
sys.path.insert(0, str((Path(__file__).parent / "../library").resolve()))
def build(config, data):
    return importlib.import_module(config["kind"]).build(config, data)
"""
PART = """
import keras
def build(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(1)])
"""


@pytest.mark.gallery
@pytest.mark.slow
def test_module_whose_name_a_config_makes_is_a_part_of_the_study(tmp_path):
    """The sample: arch/b.py changed between two commands, and no command noticed, for only config a had been inspected."""
    places = {"arch.a": "m/arch", "arch.b": "m/arch", "inserted": "library"}
    files = {}
    for module, folder in places.items():
        files[module] = tmp_path / folder / f"{module.rpartition('.')[2]}.py"
        files[module].parent.mkdir(parents=True, exist_ok=True)
        files[module].write_text(PART)
    (tmp_path / "m" / "my_model.py").write_text(COMPUTED)
    folder_of(tmp_path, my_data=DATA)
    text = STUDY.format(trials=3).replace('"my_model.py:build"', '"m/my_model.py:build"')
    text = text.replace("width = [4, 4.5, 5]", f"kind = {json.dumps(list(places))}")
    start = ", ".join(toml({"kind": kind}) for kind in places)
    text = text.replace("[search]", f"[search]\nstart = [{start}]")
    path = write_study(tmp_path, text, name="computed")
    done = manyfit("run", path, "--allow-unused")
    assert done.returncode == 0, done.stderr
    stored = load(path.with_suffix(".db"), "computed")
    assert [trial.config["kind"] for trial in stored.trials] == list(places)
    # Some were inspected before the first trial; all are of the identity.
    names = {"m/arch/a.py", "m/arch/b.py", "<inserted>"}
    assert names <= set(stored.full_identity["model"]["files"])
    assert "imported" not in manyfit("show", path).stdout
    assert manyfit("run", path).returncode == 0
    for module, file in files.items():
        file.write_text(PART.replace("Dense(1)", "Dense(1, use_bias=False)"))
        done = manyfit("run", path)
        assert done.returncode == 2, (module, done.stderr)
        name = next(name for name in names if name.strip("<>").removesuffix(".py").endswith(module.replace(".", "/")))
        assert f"model.source: the builder's source has changed: {name}" in done.stderr
        file.write_text(PART)
    # A worker sees it, too, where the builder has not imported it yet.
    files["arch.b"].write_text(PART + "# another\n")
    for command in (("run", path, "--trials", 4), ("export", path, "--model", tmp_path / "m.keras")):
        done = manyfit(*command)
        assert done.returncode == 2, done.stderr
        assert "the builder's source has changed: m/arch/b.py" in done.stderr
    assert len(load(path.with_suffix(".db"), "computed").trials) == 3


BY_LOCATION = """
import importlib.util, runpy
from pathlib import Path
import keras
def load(file):
    spec = importlib.util.spec_from_file_location("part", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UNITS
def executed(file):
    scope = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    return scope["UNITS"]
folder, stem = Path(__file__).parent, "wid" + "ths"
UNITS = [load(folder / f"{stem}.py"), load(folder.parent / "common" / f"{stem}.py"),
         runpy.run_path(str(folder / f"run_{stem}.py"))["UNITS"], executed(folder / f"executed_{stem}.py")]
def build(config, data):
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(),
                             *[keras.layers.Dense(units) for units in UNITS], keras.layers.Dense(1)])
"""


@pytest.mark.gallery
@pytest.mark.slow
def test_file_that_is_run_without_becoming_a_module_is_a_part_of_the_study(tmp_path):
    """The sample: units changed from 4 to 64 between two commands, and both were in one table."""
    (tmp_path / "study").mkdir()
    (tmp_path / "common").mkdir()
    folder_of(tmp_path / "study", my_data=DATA, my_model=BY_LOCATION)
    names = ("widths.py", "../common/widths.py", "run_widths.py", "executed_widths.py")
    for name in names:
        (tmp_path / "study" / name).write_text("UNITS = 4\n")
    path = write_study(tmp_path / "study", STUDY.format(trials=2), name="located")
    done = manyfit("run", path, "--allow-unused")
    assert done.returncode == 0, done.stderr
    for name in names:
        (tmp_path / "study" / name).write_text("UNITS = 64\n")
        # A finished study needs no worker to find it; the last one is found by a worker.
        done = manyfit("run", path, *(("--trials", 3) if name == names[-1] else ()))
        assert done.returncode == 2, (name, done.stderr)
        assert f"the builder's source has changed: {name}" in done.stderr
        (tmp_path / "study" / name).write_text("UNITS = 4\n")
    assert manyfit("run", path, "--trials", 3).returncode == 0


@pytest.mark.gallery
@pytest.mark.slow
def test_module_that_is_no_file_when_the_worker_starts_stops_nothing(tmp_path):
    """The samples: a module that is deleted after its import, and one in a zip file, which is compared as a whole."""
    import zipfile

    def pack(units):
        with zipfile.ZipFile(tmp_path / "library.zip", "w") as archive:
            archive.writestr("packed.py", f"UNITS = {units}\n")

    source = (
        "import sys\nfrom pathlib import Path\nimport keras\n"
        "gone = Path(__file__).with_name('gone.py')\ngone.write_text('N = 1')\n"
        "import gone as module\ngone.unlink()\n"
        "sys.path.insert(0, str(Path(__file__).with_name('library.zip')))\nimport packed\n"
        "def build(config, data):\n"
        "    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(1),\n"
        "                             keras.layers.Dense(packed.UNITS), keras.layers.Dense(1)])\n"
    )
    folder_of(tmp_path, my_data=DATA, my_model=source)
    pack(2)
    path = write_study(tmp_path, STUDY.format(trials=2), name="packed")
    done = manyfit("run", path, "--allow-unused")
    assert done.returncode == 0, done.stderr
    assert manyfit("run", path, "--trials", 3).returncode == 0
    pack(3)
    done = manyfit("run", path, "--trials", 4)
    assert done.returncode == 2, done.stderr
    assert "the builder's source has changed" in done.stderr


@pytest.mark.slow
def test_best_json_of_somebody_else_is_not_replaced(tmp_path):
    folder_of(tmp_path, my_data=DATA, my_model=PART)
    path = write_study(tmp_path, STUDY.format(trials=1), name="mine")
    (tmp_path / "mine.best.json").write_text('{"mine": 1}')
    done = manyfit("run", path, "--allow-unused")
    assert done.returncode == 2, done.stderr
    assert "mine.best.json is there already and is none of manyfit's" in done.stderr
    assert (tmp_path / "mine.best.json").read_text() == '{"mine": 1}'


GENERATED = """
import atexit, importlib, runpy, sys, uuid
from pathlib import Path
import keras
FOLDER = Path(__file__).parent
def made(name, config):
    file = FOLDER / f"{name}.py"
    if not (name == "kept" and file.exists()):
        file.write_text("UNITS = " + str(int(config["width"])) + "\\n")
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    units = importlib.import_module(name).UNITS
    if name == "deleted":
        file.unlink()
    if name == "deleted_later":
        atexit.register(file.unlink, missing_ok=True)
    return units
def build(config, data):
    new = FOLDER / f"made_{uuid.uuid4().hex}.py"
    new.write_text("N = 1")
    runpy.run_path(str(new))
    new.unlink()
    widths = [made(name, config) for name in ("rewritten", "deleted", "kept", "deleted_later")]
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(),
                             *[keras.layers.Dense(units) for units in widths], keras.layers.Dense(1)])
"""


@pytest.mark.gallery
@pytest.mark.slow
def test_module_that_a_builder_writes_is_no_part_of_the_study(tmp_path):
    """The sample: the module of the first trial was recorded, and the study could not be resumed."""
    folder_of(tmp_path, my_data=DATA, my_model=GENERATED)
    path = write_study(tmp_path, STUDY.format(trials=2), name="made")
    done = manyfit("run", path, "--allow-unused")
    assert (done.returncode, "has changed" in done.stderr, "changed while" in done.stderr) == (0, False, False), (
        done.stderr
    )
    assert (tmp_path / "kept.py").exists()
    # As when the worker's end was no orderly one.
    (tmp_path / "deleted_later.py").unlink(missing_ok=True)
    done = manyfit("run", path, "--trials", 3)
    assert done.returncode == 0, done.stderr
    assert len(load(path.with_suffix(".db"), "made").trials) == 3
    (tmp_path / "my_model.py").write_text((tmp_path / "my_model.py").read_text() + "# another\n")
    assert "has changed: my_model.py" in manyfit("run", path).stderr


WEIGHTED = """
[study]
trials = 1
epochs = 1
[data]
source = "d.npz"
[model]
build = "mlp"
units = [2]
[train]
class_weight = { "1" = 50.0 }
[space]
learning_rate = { low = 1e-3, high = 1e-1, log = true }
[run]
engine = "fit"
backend = "jax"
"""


@pytest.mark.slow
def test_classes_that_are_renumbered_between_two_commands_are_refused(tmp_path):
    """The sample: the same rows with labels 1, 2, 3, and the weight was another class's."""
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    np.savez(tmp_path / "d.npz", x=x, y=y)
    path = write_study(tmp_path, WEIGHTED, name="weighted")
    assert manyfit("run", path).returncode == 0
    np.savez(tmp_path / "d.npz", x=x, y=y + 1)
    done = manyfit("run", path, "--trials", 2)
    assert done.returncode == 2
    assert 'data.targets.classes: was ["0", "1", "2"], now ["1", "2", "3"]' in done.stderr
    assert len(load(path.with_suffix(".db"), "weighted").trials) == 1


@pytest.mark.gallery
@pytest.mark.slow
def test_study_whose_builder_only_failed_begins_anew_when_it_is_mended(tmp_path):
    """The sample: the old KeyError for ever, and fit for good."""
    good = (
        "import keras\ndef build(config, data):\n    return keras.Sequential([keras.Input(data.input_shape), "
        "keras.layers.Flatten(), keras.layers.Dense(config['width']), keras.layers.Dense(1)])\n"
    )
    folder_of(tmp_path, my_data=DATA, my_model=good.replace("'width'", "'widht'"))
    text = STUDY.format(trials=2).replace('engine = "fit"', "").replace("[4, 4.5, 5]", "[4, 5, 6]")
    path = write_study(tmp_path, text, name="mended")
    done = manyfit("run", path, "--allow-unused")
    assert done.returncode == 1
    assert "KeyError: 'widht'; mend the cause and repeat the command" in done.stderr
    assert "--trials 4 tries 2 more" in done.stderr
    again = manyfit("run", path)
    assert again.returncode == 1
    stored = load(path.with_suffix(".db"), "mended")
    assert stored.resolved["engine"] == "fit"
    # A mend that does not even start loses nothing, and what a killed process left running does not stay so.
    with closing(sqlite3.connect(path.with_suffix(".db"))) as connection, connection:
        connection.execute("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 1")
        connection.execute("DELETE FROM trial_user_attributes WHERE trial_id = 2")
    folder_of(tmp_path, my_model=good + "raise RuntimeError\n")
    assert manyfit("run", path).returncode != 0
    assert [trial.state for trial in load(path.with_suffix(".db"), "mended").trials] == ["FAIL", "WAITING"]
    folder_of(tmp_path, my_model=good)
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    stored = load(path.with_suffix(".db"), "mended")
    assert [trial.state for trial in stored.trials] == ["COMPLETE"] * 2
    assert stored.resolved["engine"] == "lanes"
    assert ("builder mended", {"failed": 1, "by": "KeyError: 'widht'"}) in [
        (kind, detail) for _, kind, detail in stored.events
    ]
    assert manyfit("verify", path).returncode == 0
    # What has been trained binds.
    folder_of(tmp_path, my_model=good + "# another\n")
    assert manyfit("run", path).returncode == 2


@pytest.mark.slow
@pytest.mark.gallery
def test_fixed_argument_that_nothing_reads_stops_a_new_study_and_no_old_one(tmp_path):
    """The sample: [model] hidden = [32] trained [128, 128] without a word."""
    text = STUDY.format(trials=1).replace('build = "my_model.py:build"', 'build = "mlp"\nhidden = [32]')
    text = text.replace("my_data.py:rows", "my_data.py:rows").replace(
        "width = [4, 4.5, 5]", "dropout = [0.1, 0.2]\nact = ['relu', 'elu']"
    )
    folder_of(tmp_path, my_data=DATA)
    path = write_study(tmp_path, text, name="new")
    done = manyfit("run", path)
    assert done.returncode == 2
    assert "line 10, model.hidden: mlp has no hidden; did you mean 'units'?" in done.stderr
    assert not path.with_suffix(".db").exists()
    done = manyfit("run", path, "--allow-unused")
    assert done.returncode == 0
    assert done.stderr.count("warning: model.hidden") == 1
    done = manyfit("run", path, "--trials", 2)
    assert done.returncode == 0
    assert "warning: model.hidden" in done.stderr


@pytest.mark.slow
@pytest.mark.gallery
def test_branches_of_a_builder_are_looked_at_before_a_name_is_called_unread(tmp_path):
    code = (
        "import keras\ndef build(config, data):\n    layers = [keras.layers.Dense(config['width'])]\n"
        "    if config['kind'] == 'deep':\n        layers += [keras.layers.Dense(config['depth']) for _ in range(1)]\n"
        "    if config['kind'] == 'copied':\n        copy = dict(config)\n        layers.append(keras.layers.Dense(copy['third']))\n"
        "    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(), *layers, keras.layers.Dense(1)])\n"
    )
    folder_of(tmp_path, my_data=DATA, my_model=code)
    text = STUDY.format(trials=1).replace("width = [4, 4.5, 5]", "width = [4, 5]\nkind = ['plain', 'deep', 'copied']")
    text = text.replace('build = "my_model.py:build"', 'build = "my_model.py:build"\ndepth = 3\nthird = 2')
    done = manyfit("run", write_study(tmp_path, text, name="branches"))
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


@pytest.mark.gallery
@pytest.mark.slow
def test_builder_that_sets_something_for_the_whole_process_is_not_lifted(tmp_path):
    folder_of(
        tmp_path, my_data=DATA, my_model=MODEL.replace('Conv2D(int(config["width"]), 3)', 'Dense(int(config["width"]))')
    )
    text = STUDY.format(trials=1).replace('engine = "fit"', "").replace("[4, 4.5, 5]", "[4, 5]")
    done = manyfit("run", write_study(tmp_path, text, name="whole"))
    assert done.returncode == 0, done.stderr
    assert "no lanes: its builder sets epsilon, image_data_format, max_epochs, default_matmul_precision" in done.stderr
