"""`manyfit copy`: a study under another name or in another database, equal to the last bit.

Files are copied before the rows, each whole or not at all, and the rows in one transaction that is read back before it
commits. So the same command completes a copy after a kill at any moment.
"""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search import durable
from search.errors import StoreError, UsageError
from search.failpoints import failpoint
from search.spec.settings import Settings
from search.storage import backup, connecting, deleting, leftovers, schema, studies
from search.storage.advice import advising, check_gone
from search.storage.holding import hold
from search.storage.presence import check_other_names
from search.storage.studies import Stored
from search.storage.writing import Transaction
from search.trials.confirmation import SUFFIX
from search.trials.files import StudyFiles, size_of

# optuna-dashboard keeps the notes of trials as attributes of their study, whose keys hold the trial's id.
_NOTE_OF_TRIAL = re.compile(r"dashboard:(\d+):(.*)", re.DOTALL)
_NOTE = "dashboard:note_str:0"


@dataclass(frozen=True)
class Copied:
    """What `copy` made.

    Attributes:
        stored: the copy.
        files: its weights, checkpoints, what callbacks wrote, and its log.
        bytes: the size of these files.
        backup_problem: why no backup of the copy could be made, or "".
        was_there: whether an earlier command had made it already.
        confirmation: the copy of the study that confirms it, or "".
    """

    stored: Stored
    files: tuple[Path, ...]
    bytes: int
    backup_problem: str = ""
    was_there: bool = False
    confirmation: str = ""


@advising()
def copy(path: Path, name: str, new_path: Path, new_name: str) -> Copied:
    """Copy a study, and the one that confirms it; nothing of the original changes.

    StoreError if another process holds one of the databases, if there is another study or file of the new name, or if
    something can't be written or reads back otherwise; no half of a copy is left then. UsageError for a confirmation alone.
    """
    _check_new(path, name, new_path, new_name)
    with closing(connecting.connect(path, readonly=True)) as connection:
        if confirmed := studies.confirmed_by(connection, name):
            raise UsageError(f"{name} confirms {confirmed} and is copied or renamed with it; name {confirmed}")
        confirmation = studies.confirming(connection, name)
    if not confirmation:
        return _copy(path, name, new_path, new_name)
    also = _copy(path, confirmation, new_path, new_name + SUFFIX)
    try:
        copied = _copy(path, name, new_path, new_name)
    except BaseException:
        if not also.was_there:
            with suppress(StoreError):
                deleting.delete(new_path, also.stored.name)
        raise
    return replace(copied, confirmation=also.stored.name)


def _copy(path: Path, name: str, new_path: Path, new_name: str) -> Copied:
    is_same = new_path == path
    with ExitStack() as held:
        held.enter_context(hold(path))
        lock = None if is_same else held.enter_context(hold(new_path))
        source = held.enter_context(closing(connecting.connect(path, readonly=True)))
        original = studies.read(source, path, name)
        if new_path.exists() and (there := _is_there(original, new_path, new_name)):
            return there
        if lock is not None and not new_path.exists():
            check_gone(new_path)
            schema.create(new_path)
            lock.take_file()
        check_other_names(new_path)
        if is_same:
            source.close()
        target = held.enter_context(closing(connecting.connect(new_path, readonly=False)))
        source = target if is_same else source
        held.callback(_leave_wal, target)
        files, new_files = original.files, StudyFiles(new_path, new_name)
        made = _copy_files(files, new_files)
        try:
            with Transaction(target, new_path, lambda: 0):
                leftovers.drop(target)
                original = studies.read(source, path, name)
                _copy_rows(source, target, original, new_path, new_name)
                failpoint("before a copied study is read back")
                _check_equal(original, stored := studies.read(target, new_path, new_name))
        except BaseException:
            for file in made:
                file.unlink(missing_ok=True)
            raise
        failpoint("before a copied study is backed up")
        return Copied(stored, *_with_size(new_files), backup.make(target, new_path))


def _leave_wal(connection: sqlite3.Connection) -> None:
    failpoint("before the -wal of a copy's database is given up")
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA journal_mode = DELETE")


def _check_new(path: Path, name: str, new_path: Path, new_name: str) -> None:
    if (path, name) == (new_path, new_name):
        raise UsageError(f"{name!r} is its name in {path} already; give another --name")
    if durable.is_special(new_path) or new_path.is_dir():
        raise UsageError(f"{new_path} is no file that a database can be in; name another")
    if not new_path.parent.is_dir():
        raise UsageError(f"{new_path.parent} is no folder; make it, or name another")


def _is_there(original: Stored, new_path: Path, new_name: str) -> Copied | None:
    """Return the copy that an earlier command made; None if there is no study of that name, StoreError if it is another."""
    with closing(connecting.connect(new_path, readonly=True)) as connection:
        if not studies.holds(connection, new_path, new_name):
            return None
        stored = studies.read(connection, new_path, new_name)
    files = StudyFiles(new_path, new_name)
    pairs = _pairs(original.files, files)
    try:
        _check_equal(original, stored)
        is_copy = all(new.exists() and filecmp.cmp(old, new, shallow=False) for old, new in pairs)
    except StoreError:
        is_copy = False
    if not is_copy:
        raise StoreError(f"{new_path} has a study {new_name!r} already; give another --name")
    return Copied(stored, *_with_size(files), was_there=True)


def _with_size(files: StudyFiles) -> tuple[tuple[Path, ...], int]:
    there = tuple(path for path in (files.folder, files.log, *_older(files)) if path.exists())
    return there, sum(map(size_of, there))


def _older(files: StudyFiles) -> list[Path]:
    return [files.log.with_name(f"{files.log.name}.1")]


def _pairs(files: StudyFiles, new: StudyFiles) -> Iterator[tuple[Path, Path]]:
    """Yield (file, where its copy is to be) of all but best.json, which names its study."""
    for old_file, new_file in zip([files.log, *_older(files)], [new.log, *_older(new)], strict=True):
        if old_file.is_file():
            yield old_file, new_file
    for old_file in sorted(files.folder.rglob("*")):
        if old_file.is_file() and not old_file.name.endswith(".partial"):
            yield old_file, new.folder / old_file.relative_to(files.folder)


def _copy_files(files: StudyFiles, new: StudyFiles) -> list[Path]:
    """Copy the files of a study; return those that were not there. StoreError, and none of them is left, if that fails."""
    pairs = list(_pairs(files, new))
    known = {file for _, file in pairs}
    there = [file for file in (new.folder, *new.folder.rglob("*"), new.best, new.log, *_older(new)) if file.is_file()]
    for file in there:
        # A copy that was killed left files that are equal.
        if file not in known and not file.name.endswith(".partial"):
            raise StoreError(f"{file} is there already, of a study of this name; move it away, or give another --name")
    made = []
    try:
        for old, copied in pairs:
            if copied.is_file():
                if filecmp.cmp(old, copied, shallow=False):
                    continue
                raise StoreError(f"{copied} is there already, with other content; move it away, or give another --name")
            copied.parent.mkdir(parents=True, exist_ok=True)
            partial = copied.with_name(f".{copied.name}.partial")
            made += [partial, copied]
            shutil.copyfile(old, partial)
            durable.replace(partial, copied)
    except BaseException as error:
        for file in made:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            what = f"{error.filename2 or error.filename or new.folder} can't be written: {error.strerror}"
            raise StoreError(f"{what}; nothing was copied: mend the cause and repeat the command") from None
        raise
    return made


def _copy_rows(
    source: sqlite3.Connection, target: sqlite3.Connection, original: Stored, new_path: Path, new_name: str
) -> None:
    """Insert all rows of a study under new ids; the caller has begun a transaction."""
    study_id = studies.id_of(source, original.path, original.name)
    new_id = _insert(target, "studies", {"study_name": new_name})
    trial_ids = {}
    for row in source.execute("SELECT * FROM trials WHERE study_id = ? ORDER BY trial_id", (study_id,)):
        values = {**dict(row), "study_id": new_id}
        trial_id = values.pop("trial_id")
        trial_ids[trial_id] = _insert(target, "trials", values)
    for table, columns, key in _tables(source):
        of = "trial_id" if "trial_id" in columns else "study_id"
        which = "trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)" if of == "trial_id" else "study_id = ?"
        order = ", ".join(f'"{column}"' for column in key)
        for row in source.execute(f'SELECT * FROM "{table}" WHERE {which} ORDER BY {order}', (study_id,)):  # noqa: S608
            values = dict(row)
            values[of] = trial_ids[values[of]] if of == "trial_id" else new_id
            if len(key) == 1 and key[0] != of:
                del values[key[0]]  # a number of this table alone
            if table == "manyfit_studies":
                values["settings"] = _renamed_settings(values["settings"], original, new_path, new_name)
            elif table == "study_system_attributes":
                values |= _renamed_note(values["key"], values["value_json"], original.name, new_name, trial_ids)
            _insert(target, table, values)


def _tables(connection: sqlite3.Connection) -> list[tuple[str, set[str], list[str]]]:
    """Return (table, columns, columns of its primary key) of the tables with rows of a study or of a trial."""
    tables: dict[str, set[str]] = {}
    keys: dict[str, list[str]] = {}
    for table, column, place in connection.execute(
        "SELECT t.name, c.name, c.pk FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table' ORDER BY c.pk"
    ):
        tables.setdefault(table, set()).add(column)
        keys.setdefault(table, []).extend([column] if place else [])
    return [
        (table, columns, keys[table])
        for table, columns in tables.items()
        if table not in ("studies", "trials") and columns & {"study_id", "trial_id"}
    ]


def _insert(connection: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> int:
    columns = ", ".join(f'"{column}"' for column in values)
    marks = ", ".join("?" * len(values))
    cursor = connection.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', tuple(values.values()))  # noqa: S608
    return cursor.lastrowid or 0


def _renamed_settings(text: str, original: Stored, new_path: Path, new_name: str) -> str:
    table = json.loads(text)
    table["study"]["name"] = new_name
    if new_path != original.path:
        table["run"]["storage"] = str(new_path)
    return json.dumps(table)


def _renamed_note(key: str, value: str, name: str, new_name: str, trial_ids: Mapping[int, int]) -> dict[str, str]:
    """Return key and value of an attribute as the copy has them."""
    if (found := _NOTE_OF_TRIAL.fullmatch(key)) and int(found[1]) in trial_ids:
        return {"key": f"dashboard:{trial_ids[int(found[1])]}:{found[2]}"}
    head = f"**{name}**"
    if key == _NOTE and str(note := json.loads(value)).startswith(head):
        return {"value_json": json.dumps(f"**{new_name}**{note.removeprefix(head)}")}
    return {}


def _check_equal(original: Stored, copied: Stored) -> None:
    """Raise StoreError unless a study reads as its original does, but for its name and its place."""
    # As text: a value that is not a number differs from itself.
    if _text(original) != _text(copied):
        raise StoreError(
            f"{copied.path}: the copy of {original.name!r} reads otherwise than the original; nothing was kept"
        )


def _text(stored: Stored) -> str:
    return repr([
        {**_told(stored.file.settings), "file": stored.file.path},
        *(stored.resolved, stored.identity, stored.seconds, stored.ended, stored.trials, stored.events),
        *(sorted(stored.study_attrs.items()), stored.spent),
    ])  # fmt: skip


def _told(settings: Settings) -> dict[str, Any]:
    table = settings.model_dump()
    del table["study"]["name"], table["run"]["storage"]
    return table
