"""What is no regular file is written into or refused, and never replaced: a rename over a device takes it from the machine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from support import replay, replay_file
from typer.testing import CliRunner

from search import cli, durable
from search.errors import UsageError
from search.views import export


def test_export_into_a_pipe_leaves_it_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    export.write(pipe, "all of it\n")
    reader.join(timeout=10)
    assert received == ["all of it\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_export_through_a_link_keeps_the_link(tmp_path):
    link, file = tmp_path / "link.json", tmp_path / "file.json"
    file.write_text("before")
    link.symlink_to(file)
    export.write(link, "after")
    assert link.is_symlink()
    assert file.read_text() == "after"


def test_link_to_a_device_is_written_into_and_stays(tmp_path):
    link = tmp_path / "nothing.json"
    link.symlink_to(os.devnull)
    export.write(link, "dropped")
    assert link.is_symlink()
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_device_that_is_full_is_an_error_and_stays(tmp_path):
    link = tmp_path / "full.json"
    link.symlink_to("/dev/full")
    with pytest.raises(UsageError, match="No space left"):
        export.write(link, "x" * 100_000)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("replay.db", "the study's database"),
        ("replay.db.backup", "the study's database"),
        ("link.json", "the study's database"),
        ("replay.toml", "the study file"),
        ("mine.py", "code of the study"),
        ("rows.npz", "the study's data"),
        ("other.db", "a database"),
    ],
)
@pytest.mark.parametrize("how", ["-o", "--csv -o"])
def test_export_replaces_nothing_that_a_study_is_made_of(tmp_path, name, what, how):
    (tmp_path / "mine.py").write_text("def build(config, data): pass\n")
    (tmp_path / "rows.npz").write_bytes(b"rows")
    shutil.copy(replay(replay_file(tmp_path, study__trials=3)).path, tmp_path / "other.db")
    shutil.copy(tmp_path / "replay.db", tmp_path / "replay.db.backup")
    (tmp_path / "link.json").symlink_to(tmp_path / "replay.db")
    with closing(sqlite3.connect(tmp_path / "replay.db")) as connection, connection:
        for path, value in (("$.model.build", "mine.py:build"), ("$.data.source", "rows.npz")):
            connection.execute("UPDATE manyfit_studies SET settings = json_set(settings, ?, ?)", (path, value))
    before = (tmp_path / name).read_bytes()
    done = CliRunner().invoke(cli.app, ["export", str(tmp_path / "replay.db"), *how.split(), str(tmp_path / name)])
    assert done.exit_code == 2, done.output
    assert f"is {what}; name another file" in done.output
    assert (tmp_path / name).read_bytes() == before
    assert (
        CliRunner().invoke(cli.app, ["export", str(tmp_path / "replay.db"), "-o", str(tmp_path / "b.json")]).exit_code
        == 0
    )


def test_no_finished_file_takes_the_place_of_a_pipe(tmp_path):
    pipe, partial = tmp_path / "pipe", tmp_path / "partial"
    os.mkfifo(pipe)
    partial.write_text("finished")
    with pytest.raises(OSError, match="no file"):
        durable.replace(partial, pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
