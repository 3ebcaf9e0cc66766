"""What a user's environment or one trial's builder sets for the whole process reaches no other trial."""

from __future__ import annotations

import gc
import json
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from support import in_keras, manyfit, table, write_study

from search.engines import pins
from search.storage.records import load

BUILDER = """
import os
import sys
import warnings

import keras
import numpy as np

if "LOUD" in os.environ:
    warnings.simplefilter("error")


def deep():
    return deep()


def recursion():
    sys.setrecursionlimit(50)
    deep()


IN_BUILD = {
    "limit": lambda: sys.setrecursionlimit(50),
    "recursion": recursion,
    "warnings": lambda: warnings.simplefilter("error"),
    "numpy": lambda: np.seterr(all="raise"),
    "folder": lambda: os.chdir("/"),
}


def build(config, data):
    np.loadtxt("width.txt")
    if not config["calm"]:
        IN_BUILD.get(config["kind"], int)()
    if config["kind"] == "asks":
        warnings.warn("a word", stacklevel=1)
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(data.outputs)])
"""

STUDY = """
[study]
objective = "val_loss"
trials = {trials}
epochs = 1
[data]
source = "sklearn:iris"
[model]
build = "mine.py:build"
calm = {calm}
[train]
schedule = "cosine"
[space]
kind = {kinds}
[search]
sampler = "random"
pruner = "none"
duplicates = true
start = [{start}]
[run]
engine = "fit"
backend = "jax"
"""


def study(folder, kinds, *, calm=False, name="calm"):
    (folder / "mine.py").write_text(BUILDER)
    (folder / "width.txt").write_text("1")
    start = ", ".join(f'{{ kind = "{kind}" }}' for kind in kinds)
    # The middle of the space, which is built before the first trial, is calm.
    choices = json.dumps(sorted({"asks", *kinds}, key=lambda kind: (kind != "asks", kind)))
    text = STUDY.format(trials=len(kinds), kinds=choices, start=start, calm=str(calm).lower())
    return write_study(folder, text, name=name)


@pytest.mark.gallery
@pytest.mark.slow
def test_what_a_builder_sets_for_the_process_ends_with_its_trial(tmp_path):
    """The sample: after a recursion limit of 50, or warnings as errors, the next trials failed and the study stopped."""
    kinds = ["limit", "warnings", "numpy", "folder", "asks", "recursion", "asks"]
    tables = []
    for calm in (False, True):
        path = study(tmp_path, kinds, calm=calm, name=f"calm{calm}".lower())
        manyfit("run", path, cwd=tmp_path)
        tables.append([row for row in table(path.with_suffix(".db"), path.stem) if row[4]["kind"] == "asks"])
    states = [trial.state for trial in load(tmp_path / "calmfalse.db", "calmfalse").trials]
    assert states[kinds.index("recursion")] == "FAIL"
    assert len(tables[0]) == 2
    assert tables[0] == tables[1]


@pytest.mark.gallery
@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "backend"),
    [
        ({"PYTHONWARNINGS": "error", "LOUD": "1"}, "jax"),
        *(
            pytest.param(variables, backend, marks=pytest.mark.gallery)
            for variables, backend in (
                ({"PYTHONWARNINGS": "error"}, "jax"),
                ({"PYTHONWARNINGS": "ignore::UserWarning,e::DeprecationWarning,err"}, "tensorflow"),
                ({"LOUD": "1"}, "jax"),
                ({"LOUD": "1"}, "tensorflow"),
            )
        ),
    ],
)
def test_warnings_that_are_errors_change_no_trial_and_no_saved_model(tmp_path, variables, backend):
    """The sample: with PYTHONWARNINGS=error every trial failed by a line of ours; plain Keras trains under `-W error`."""
    how = ["--set", f"run.backend={backend}", "--set", "train.class_weight=balanced"]
    path, loud = (study(tmp_path, ["fine", "fine"], name=name) for name in ("plain", "loud"))
    assert manyfit("run", path, *how, cwd=tmp_path).returncode == 0
    done = manyfit("run", loud, *how, cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    assert table(tmp_path / "loud.db", "loud") == table(tmp_path / "plain.db", "plain")
    saved = manyfit("export", loud, "--model", tmp_path / "best.keras", cwd=tmp_path, env=variables)
    assert saved.returncode == 0, saved.stderr
    assert (tmp_path / "best.keras").stat().st_size


def every_setting_comes_back():
    import gc
    import locale
    import os
    import socket
    import sys
    import warnings

    import keras
    import numpy as np

    warnings.filterwarnings("ignore", message="a filter of the user's own file")
    before = pins.Pins.now()

    def settings():
        return {
            "filters": list(warnings.filters),
            "numpy": np.geterr(),
            "collects": gc.isenabled(),
            "timeout": socket.getdefaulttimeout(),
            "locale": locale.setlocale(locale.LC_ALL),
            "folder": str(Path.cwd()),
            "epsilon": keras.config.epsilon(),
        }

    changes = {
        "filters": lambda: warnings.simplefilter("error"),
        "filters of one module": lambda: warnings.filterwarnings("error", module="numpy"),
        "no filters": warnings.resetwarnings,
        "numpy": lambda: np.seterr(all="raise"),
        "collects": gc.disable,
        "timeout": lambda: socket.setdefaulttimeout(0.001),
        "locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
        "folder": lambda: os.chdir("/"),
        "epsilon": lambda: keras.config.set_epsilon(0.5),
    }
    expected, left = settings(), []
    for name, change in changes.items():
        change()
        assert settings() != expected or name == "locale", name
        before.set()
        left += [name] if settings() != expected else []
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(80)
    before.set()
    left += ["recursion"] if sys.getrecursionlimit() != limit else []
    sys.setrecursionlimit(limit * 5)
    before.set()
    return {"left": left, "raised": sys.getrecursionlimit() == limit * 5}


@pytest.mark.slow
def test_every_setting_of_the_process_comes_back():
    """A recursion limit that was raised stays: a lane may trace its deep model later."""
    assert in_keras(every_setting_comes_back) == {"left": [], "raised": True}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("error", "default"),
        ("e", "default"),
        (" error ::", "default::"),
        ("error::DeprecationWarning", "default::DeprecationWarning"),
        ("ignore,error:some words,once::UserWarning", "ignore,default:some words,once::UserWarning"),
        ("error::DeprecationWarning:mine", "error::DeprecationWarning:mine"),
        ("error:::mine:7", "error:::mine:7"),
        ("default", "default"),
        ("", ""),
    ],
)
def test_worker_prints_warnings_that_the_environment_makes_errors_but_for_those_of_one_module(given, kept):
    assert pins.clean({"PYTHONWARNINGS": given, "HOME": "/h"}) == {"PYTHONWARNINGS": kept, "HOME": "/h"}


def test_warnings_print_where_they_would_raise_and_stay_ignored_elsewhere():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        before = list(warnings.filters)
        with warnings.catch_warnings(record=True) as seen, pins.warnings_as_prints():
            warnings.warn("shown", UserWarning, stacklevel=1)
            warnings.warn("ignored", DeprecationWarning, stacklevel=1)
        assert [str(warning.message) for warning in seen] == ["shown"]
        assert warnings.filters == before
        with pytest.raises(UserWarning, match="raises"):
            warnings.warn("raises", UserWarning, stacklevel=1)


@pytest.mark.parametrize("is_on", [True, False])
def test_imports_are_free_of_collections_which_then_go_on_as_before(is_on):
    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        with suppress(ImportError), pins.no_collections():
            is_collecting = gc.isenabled()
            raise ImportError
        assert (is_collecting, gc.isenabled(), gc.get_freeze_count() > 0) == (False, is_on, True)
    finally:
        gc.unfreeze()
        (gc.enable if was_on else gc.disable)()
