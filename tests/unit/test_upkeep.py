"""`manyfit clean`: what no longer serves goes, what a study still wants stays, and nobody else's files are touched."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT, replay, replay_file, training
from typer.testing import CliRunner

from search import arrayfile, cli
from search.engines.checkpoints import Checkpoints
from search.errors import Interrupted, StoreError
from search.storage import upkeep
from search.storage.store import hold
from search.storage.verify import verify
from search.trials.events import Member
from search.trials.files import StudyFiles

WEIGHTS = {"trainable/0": np.ones((10, 10), np.float32)}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two studies, one of them done, without a file beside their databases."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "done").mkdir()
    (folder / "begun").mkdir()
    replay(replay_file(folder / "done"))
    asked = iter([0] * 100)
    with pytest.raises(Interrupted):
        replay(replay_file(folder / "begun"), interruption=lambda: next(asked, 2))
    return folder


def with_files(studies, tmp_path, which):
    """Copy a study and give it checkpoints, weights of all its trials, half-written files and one that is not ours."""
    for path in (studies / which).iterdir():
        shutil.copy(path, tmp_path)
    files = StudyFiles(tmp_path / "replay.db", "replay")
    waits = [t.number for t in upkeep.records.load(tmp_path / "replay.db", "replay").trials if not t.is_ended]
    Checkpoints(files).save([(training(*(waits or [9])), 2, WEIGHTS)])
    for number in range(10):
        arrayfile.write(files.weights(Member(number)), WEIGHTS, {"trial": number})
    folder = tmp_path / "replay.files"
    for partial in (folder / ".trial-3.npz.partial", folder / "running" / ".0.2.npz.partial"):
        partial.write_bytes(b"x" * 1000)
    for half in (".replay.best.json.77.partial", ".replay.db.new", ".replay.db.new-journal", ".replay.db.backup.new"):
        (tmp_path / half).write_bytes(b"x" * 1000)
    (folder / "notes.txt").write_text("mine")
    return tmp_path / "replay.db", folder


def names(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("which", ["done", "begun"])
def test_best_weights_stay_and_checkpoints_only_of_a_study_that_goes_on(studies, tmp_path, which):
    database, folder = with_files(studies, tmp_path, which)
    before, had = database.read_bytes(), names(tmp_path)
    best = {f"trial-{trial.number}.npz" for trial in upkeep.records.load(database, "replay").complete[:5]}
    assert len(best) == 5
    wanted = (best & had) | ({"0.1.npz"} if which == "begun" else set())
    done = upkeep.clean(database, "replay", weights=False)
    assert names(folder) == wanted | {"notes.txt"}
    assert {path.name for path in done.gone} == had - names(tmp_path)
    assert not (tmp_path / ".replay.best.json.77.partial").exists()
    assert done.kept == len(best & had)
    assert database.read_bytes() == before
    again = upkeep.clean(database, "replay", weights=False)
    assert (again.gone, again.bytes) == ([], 0)


def test_bytes_are_those_of_what_went_and_of_what_is_kept(studies, tmp_path):
    database, folder = with_files(studies, tmp_path, "done")
    (folder / "notes.txt").unlink()
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    done = upkeep.clean(database, "replay", weights=False)
    assert done.bytes == sum(size for path, size in sizes.items() if not path.exists())
    assert done.kept_bytes == sum(size for path, size in sizes.items() if path.exists() and folder in path.parents)


def test_with_weights_all_of_them_go_and_an_empty_folder_too(studies, tmp_path):
    _, folder = with_files(studies, tmp_path, "done")
    (folder / "notes.txt").unlink()
    done = run("clean", tmp_path / "replay.toml", "--weights")
    assert done.exit_code == 0, done.output
    assert not folder.exists()
    assert "kept: 0 files of weights" in done.stderr
    assert run("show", tmp_path / "replay.toml").exit_code == 0


def test_study_that_runs_is_left_alone(studies, tmp_path):
    database, _ = with_files(studies, tmp_path, "begun")
    before = names(tmp_path)
    code = (
        "import sys; from pathlib import Path; from search.storage.store import hold\n"
        "lock = hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert holder.stdout.readline() == "held\n"
        refused = run("clean", tmp_path / "replay.toml", "--weights")
        assert refused.exit_code == 3
        assert f"process {holder.pid} on" in refused.stderr
        with pytest.raises(StoreError):
            upkeep.clean(database, "replay", weights=True)
        assert names(tmp_path) - {"replay.db.lock"} == before - {"replay.db.lock"}
    finally:
        holder.communicate("")


def test_files_of_another_study_stay_whatever_its_name(studies, tmp_path):
    """The other one may be running, and its name may begin with this one's."""
    database, _ = with_files(studies, tmp_path, "done")
    replay(replay_file(tmp_path, study__name="replay.2", study__trials=2, run__storage="other.db"))
    other = tmp_path / "replay.2@other.files"
    Checkpoints(StudyFiles(tmp_path / "other.db", "replay.2")).save([(training(0), 2, WEIGHTS)])
    theirs = [
        *other.rglob("*.npz"),
        tmp_path / ".replay.2@other.best.json.77.partial",
        tmp_path / ".replay.2.best.json.77.partial",
        tmp_path / ".replay.2.db.new",
    ]
    for half in theirs[1:]:
        half.write_text("half of it")
    upkeep.clean(database, "replay", weights=True)
    assert [path.name for path in theirs if not path.exists()] == []


def test_two_databases_in_one_folder_share_no_files_whatever_their_studies_are_called(studies, tmp_path):
    database, folder = with_files(studies, tmp_path, "done")
    there = names(folder)
    shutil.copy(database, tmp_path / "copy.db")
    upkeep.clean(tmp_path / "copy.db", "replay", weights=True)
    assert names(folder) == there
    mine, other = (StudyFiles.of(replay_file(tmp_path, run__storage=name)) for name in ("replay.db", "copy.db"))
    for files, stem in ((mine, "replay"), (other, "replay@copy")):
        assert [path.name for path in (files.log, files.best, files.folder)] == [
            f"{stem}.log", f"{stem}.best.json", f"{stem}.files",
        ]  # fmt: skip
    assert upkeep.records.load(tmp_path / "copy.db", "replay").files == other


def test_link_to_a_database_that_is_held_is_refused_as_the_database_is(studies, tmp_path):
    database, _ = with_files(studies, tmp_path, "done")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.db").symlink_to(database)
    with hold(database):
        assert run("clean", tmp_path / "elsewhere" / "link.db").exit_code == 3
    assert run("clean", tmp_path / "elsewhere" / "link.db").exit_code == 0


def test_study_without_files_has_nothing_to_clean(studies, tmp_path):
    for path in (studies / "done").iterdir():
        shutil.copy(path, tmp_path)
    done = run("clean", tmp_path / "replay.toml")
    assert done.exit_code == 0, done.output
    assert "deleted: 0 files" in done.stderr
    missing = run("clean", tmp_path / "nowhere.db")
    assert missing.exit_code == 3


def test_damaged_weights_and_checkpoints_are_told_by_verify(studies, tmp_path):
    database, folder = with_files(studies, tmp_path, "begun")
    (folder / "notes.txt").unlink()
    assert verify(database).problems == []
    for path in (folder / "trial-2.npz", folder / "running" / "0.1.npz"):
        path.write_bytes(path.read_bytes()[:-40])
    told = [str(problem) for problem in verify(database).problems]
    assert [problem.split(" is damaged")[0] for problem in told] == [
        f"replay: {folder / 'running' / '0.1.npz'}",
        f"replay: {folder / 'trial-2.npz'}",
    ]
    assert all("delete it" in problem for problem in told)


def test_file_that_is_not_ours_is_no_business_of_verify(studies, tmp_path):
    database, folder = with_files(studies, tmp_path, "done")
    assert (folder / "notes.txt").exists()
    assert [str(problem) for problem in verify(database).problems] == []
