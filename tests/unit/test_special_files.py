"""What is no regular file is written into or refused, and never replaced: a rename over a device takes it from the machine."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from search import durable
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


def test_no_finished_file_takes_the_place_of_a_pipe(tmp_path):
    pipe, partial = tmp_path / "pipe", tmp_path / "partial"
    os.mkfifo(pipe)
    partial.write_text("finished")
    with pytest.raises(OSError, match="no file"):
        durable.replace(partial, pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
