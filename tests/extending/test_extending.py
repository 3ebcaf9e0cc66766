"""Each seam has one file to add: a toy of every kind, by the public registries and by entry points, runs a study."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from support import curve, load, manyfit, record, replay, replay_file, write_study

from search import registry
from search.core import loop
from search.errors import Interrupted, OptionError, StudyFileError, UsageError
from search.storage.memory import MemoryStorage
from search.workers.inprocess import InProcess, Replaying

TOYS = Path(__file__).parent / "toys"
ENTRY_POINTS = """
[manyfit.samplers]
climbing = toy_sampler:Climbing
broken = toy_nowhere:Nothing
[manyfit.pruners]
odd_ones_out = toy_pruner:OddOnesOut
[manyfit.sources]
ramps = toy_source:Ramps
[manyfit.engines]
knowing = toy_engine:make
"""
STUDY = """
[study]
objective = "val_loss"
trials = 6
epochs = 3
[data]
source = "ramps:80"
[model]
units = [4]
[space]
learning_rate = { low = 1e-3, high = 1e-1 }
[search]
sampler = { name = "climbing", by = 0.05 }
pruner = "odd_ones_out"
"""


@pytest.fixture
def toys(monkeypatch):
    """The modules of the toys, as if their package were installed in this process."""
    monkeypatch.syspath_prepend(str(TOYS))
    for kind in (registry.SAMPLERS, registry.PRUNERS, registry.STORAGES, registry.ENGINES):
        monkeypatch.setattr(kind, "_added", {})
    yield
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment in which another package has entry points of ours."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(TOYS, site, dirs_exist_ok=True)
    info = site / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def test_sampler_is_one_class(toys, tmp_path):
    from toy_sampler import Climbing

    registry.SAMPLERS.register("climbing", Climbing)
    stored = replay(replay_file(tmp_path, study__trials=5, search__sampler={"name": "climbing", "by": 0.1}))
    assert [trial.params["dropout"] for trial in stored.trials] == pytest.approx([0.25, 0.3, 0.35, 0.4, 0.45])
    assert stored.trials[3].attrs == {"toy": {"share": 0.8}}


def test_options_of_a_sampler_are_checked_like_ours(toys, tmp_path):
    from toy_sampler import Climbing

    registry.SAMPLERS.register("climbing", Climbing)
    with pytest.raises(StudyFileError, match=r"the sampler climbing has no option 'bye'.*did you mean 'by'"):
        replay_file(tmp_path, search__sampler={"name": "climbing", "bye": 0.1})
    with pytest.raises(StudyFileError, match="did you mean 'climbing'"):
        replay_file(tmp_path, search__sampler="climbin")


def test_pruner_is_one_class(toys, tmp_path):
    from toy_pruner import OddOnesOut

    registry.PRUNERS.register("odd_ones_out", OddOnesOut)
    pruner = {"name": "odd_ones_out", "after": 2}
    stored = replay(replay_file(tmp_path, study__trials=4, search__sampler="random", search__pruner=pruner))
    assert [(trial.ended, len(trial.curve)) for trial in stored.trials] == [("finished", 9), ("pruned", 2)] * 2
    assert stored.trials[1].why == "an odd one"


def test_storage_is_one_class(toys, tmp_path):
    from toy_storage import Folder

    registry.STORAGES.register("folder", Folder)
    kind = registry.STORAGES.get("folder")
    file = replay_file(tmp_path)
    ticks = iter([0] * 7 + [2])
    with pytest.raises(Interrupted):
        loop.run(file, record(file), kind, Replaying(curve, 3), interruption=ticks.__next__)
    assert 0 < len(kind.of(file).load().trials) < 20
    found = loop.run(file, record(file), kind, Replaying(curve, 3))
    expected = loop.run(file, record(file), MemoryStorage, Replaying(curve, 3))
    assert [(t.params, t.state, t.curve) for t in found.trials] == [
        (t.params, t.state, t.curve) for t in expected.trials
    ]
    assert found.ended == "all trials"


def test_engine_is_one_class(toys, tmp_path):
    from toy_engine import Knowing

    from search.engines.checkpoints import Checkpoints

    file = replay_file(tmp_path, study__trials=8, search__sampler="random", search__pruner="none")
    engine = InProcess(Knowing(Checkpoints(None)), capacity=2)
    found = loop.run(file, record(file), MemoryStorage, engine)
    assert len(found.complete) == 8
    assert all(len(trial.curve) == 9 for trial in found.trials)


def test_names_are_taken_once(toys):
    for kind, name in ((registry.SAMPLERS, "tpe"), (registry.PRUNERS, "median"), (registry.SOURCES, "keras")):
        with pytest.raises(ValueError, match=f"have a '{name}' already"):
            kind.register(name, object)


def test_all_of_ours_can_be_imported():
    for kind in (registry.SAMPLERS, registry.PRUNERS, registry.SOURCES, registry.STORAGES):
        for name in kind:
            assert kind.get(name) is not None


@pytest.mark.gallery
@pytest.mark.slow
def test_another_package_adds_its_own_by_entry_points(installed, tmp_path):
    path = write_study(tmp_path, STUDY, name="toys")
    done = manyfit("run", path, env=installed)
    assert done.returncode == 0, done.stderr
    stored = load(path.with_suffix(".db"), "toys")
    assert [trial.ended for trial in stored.trials] == ["finished", "pruned"] * 3
    rates = [trial.params["learning_rate"] for trial in stored.trials]
    assert rates == pytest.approx([0.001 + share * 0.099 for share in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)])
    assert stored.identity["data"]["source"] == "ramps:80"
    assert stored.file.settings.data.source == "ramps:80"
    for command in (
        ["check"],
        ["confirm", "--top", "2", "--repeats", "2"],
        ["report"],
        ["retrain", "-o", "again.keras"],
    ):
        done = manyfit(command[0], path, *command[1:], env=installed, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.gallery
@pytest.mark.slow
def test_another_packages_engine_trains_and_declines(installed, tmp_path):
    path = write_study(tmp_path, STUDY.replace("[space]", '[run]\nengine = "knowing"\n[space]'), name="knowing")
    done = manyfit("run", path, env=installed)
    assert done.returncode == 0, done.stderr
    assert "knowing on " in done.stderr
    curves = [[metrics["val_loss"] for metrics in t.curve] for t in load(path.with_suffix(".db"), "knowing").trials]
    assert curves[0][1] - curves[0][0] == pytest.approx(-0.5)
    (tmp_path / "mine.py").write_text("import keras\n\n\ndef make(config):\n    return keras.callbacks.Callback()\n")
    other = write_study(
        tmp_path,
        STUDY.replace("[space]", '[run]\nengine = "knowing"\n[train]\ncallbacks = ["mine.py:make"]\n[space]'),
        name="declined",
    )
    declined = manyfit("run", other, env=installed)
    assert declined.returncode == 2
    assert "knowing can't train this model: it calls nobody back" in declined.stderr


def test_what_is_broken_there_is_said_in_a_line(installed, tmp_path):
    path = write_study(tmp_path, STUDY.replace('"climbing", by = 0.05', '"broken"'), name="broken")
    done = manyfit("plan", path, env=installed)
    assert done.returncode == 2
    assert "'broken' of the package toys can't be imported: ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr
    path = write_study(tmp_path, STUDY.replace("ramps:80", "ramps:many"), name="many")
    done = manyfit("plan", path, env=installed)
    assert done.returncode == 2
    assert "ramps: wants a number of rows; received 'many'" in done.stderr


def test_without_that_package_the_names_are_unknown(tmp_path):
    for text, words in (
        (STUDY.replace("odd_ones_out", "none"), "no such sampler: 'climbing'"),
        (STUDY, "no such pruner: 'odd_ones_out'"),
    ):
        with pytest.raises((OptionError, UsageError), match=words):
            replay_file(tmp_path, text)
