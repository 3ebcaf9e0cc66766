"""Where a study is kept: addresses that may hold a password (B4), and folders whose names mean something to others."""

from __future__ import annotations

import pytest
from support import REPLAY, replay, replay_file, table
from typer.testing import CliRunner

from search import cli
from search.storage.store import Store
from search.storage.verify import verify

ADDRESSES = [
    "postgresql://me:hunter2@db.example/studies",
    "postgresql+psycopg2://me:hunter2@db.example:5432/studies",
    "mysql://me:hunt:hunter2@db.example/studies",
    "postgresql://me:hun ter2@db.example/studies",
    "postgresql://my self:p@ss hunter2@db.example/studies",
    f"postgresql://me:{'hunter2' * 30}@db.example/studies",
    "sqlite://me:hunter2@db.example/studies",
    "sqlite:///studies.db?password=hunter2",
    "sqlite:///studies.db?mode=ro&password=hun ter2",
    "redis://:hunter2@db.example",
    "file:///studies.db?key=hunter2",
]


def refused(tmp_path, *arguments):
    """Run a command that must be refused with 2 in one line, and look for the password wherever it may have gone."""
    before = sorted(tmp_path.rglob("*"))
    for debug in ((), ("--debug",)):
        done = CliRunner().invoke(cli.app, [*debug, *map(str, arguments)])
        assert done.exit_code == 2, done.output
        assert "ter2" not in done.output + done.stdout + done.stderr
        assert len(done.stderr.splitlines()) == 1 or debug
    assert sorted(tmp_path.rglob("*")) == before
    return done.stderr


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("key", ["run.storage", "run.storag", "run.storage.url", "storage"])
def test_address_for_the_storage_is_refused_and_its_password_told_nobody(tmp_path, address, key):
    file = replay_file(tmp_path)
    said = refused(tmp_path, "run", file.path, "--set", f"{key}={address}")
    assert ("must be an SQLite file" in said) == (key == "run.storage")
    refused(tmp_path, "plan", file.path, "--set", f"{key}={address}")


COMMANDS = ["run", "show", "export", "verify", "clean", "dashboard", "plan", "list"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("command", COMMANDS)
def test_address_in_a_study_file_is_refused_by_every_command_and_its_password_told_nobody(tmp_path, address, command):
    file = replay_file(tmp_path, f'{REPLAY}[run]\nstorage = "{address}"\n', run__storage="replay.db")
    assert "must be an SQLite file" in refused(tmp_path, command, file.path)


@pytest.mark.parametrize("line", ["storage = {}", "storage = '{}", 'storag = "{}"', "{} = 1", "storage = ['{}']"])
def test_line_of_a_study_file_that_is_wrong_is_told_without_the_password_in_it(tmp_path, line):
    file = replay_file(tmp_path)
    for address in ADDRESSES:
        file.path.write_text(f"{REPLAY}[run]\n{line.format(address)}\n")
        for command in ("run", "verify"):
            refused(tmp_path, command, file.path)


@pytest.mark.parametrize(
    "key", ["study.name", "data.source", "model.build", "study", "space.dropout", "search.sampler"]
)
def test_address_in_the_place_of_anything_else_is_refused_and_its_password_told_nobody(tmp_path, key):
    file = replay_file(tmp_path)
    for address in ADDRESSES:
        refused(tmp_path, "run", file.path, "--set", f"{key}={address}")
        refused(tmp_path, "run", file.path, "--set", f"{address}={key}")


def test_address_for_a_name_finds_no_study_and_its_password_is_told_nobody(tmp_path):
    file = replay_file(tmp_path)
    replay(file)
    for address in ADDRESSES:
        for command in ("show", "clean", "dashboard"):
            done = CliRunner().invoke(cli.app, [command, str(file.path), "--name", address])
            assert done.exit_code == 3, done.output
            assert "has no study" in done.stderr
            assert "ter2" not in done.output


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("command", COMMANDS)
def test_address_in_the_place_of_a_study_is_refused_and_its_password_told_nobody(
    tmp_path, address, command, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert "a study is a file; received an address of" in refused(tmp_path, command, address)


@pytest.mark.parametrize("address", ADDRESSES)
def test_password_of_a_refused_address_is_not_in_a_study_that_is_there(tmp_path, address):
    file = replay_file(tmp_path)
    replay(file)
    before = file.storage.read_bytes()
    refused(tmp_path, "run", file.storage, "--set", f"run.storage={address}")
    assert file.storage.read_bytes() == before
    assert all(b"ter2" not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["a?b", "a#b", "100%", "%41", "a b", "a&b=c", "a{b}", "Größe", "\U0001f600", "a'b", "[a]", "-rf"]
)
def test_folder_of_any_name_holds_studies(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "plain").mkdir()
    file = replay_file(folder, study__trials=3)
    replay(file)
    assert table(file.storage, "replay") == table(
        replay(replay_file(tmp_path / "plain", study__trials=3)).path, "replay"
    )
    with Store.open(file.storage, "replay") as store:
        assert store.back_up() == ""
    file.storage.write_bytes(b"")
    done = CliRunner().invoke(cli.app, ["verify", str(file.path), "--restore"])
    assert done.exit_code == 0, done.output
    assert verify(file.storage).problems == []
    assert {path.name.partition(".damaged-")[0] for path in folder.iterdir()} == {
        "replay.toml",
        "replay.db",
        "replay.db.backup",
        "replay.db.lock",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["plain", name])
