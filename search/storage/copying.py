"""`manyfit copy`: a study under another name or in another database, equal to the last bit.

Files are copied before the rows, each whole or not at all, and the rows in one transaction that is read back before it
commits. So the same command completes a copy after a kill at any moment.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from search import durable
from search.errors import StoreError, UsageError
from search.failpoints import failpoint
from search.spec.names import checked_name
from search.storage import backup, connecting, deleting, leftovers, schema, studies
from search.storage.advice import advising, check_gone
from search.storage.holding import hold
from search.storage.paths import lock_of, remove
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
    try:
        new_confirmation = checked_name(new_name + SUFFIX)
    except ValueError:
        raise UsageError(f"{new_name} is too long to have {SUFFIX!r} at its end; give another --name") from None
    also = _copy(path, confirmation, new_path, new_confirmation)
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
        if new_path.exists() and (there := _is_there(source, original, new_path, new_name)):
            return there
        undoing = held.enter_context(ExitStack())
        if lock is not None and not new_path.exists():
            check_gone(new_path)
            undoing.callback(_remove_database, new_path)
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
                stored = studies.read(target, new_path, new_name)
                _check_equal(source, original, target, stored)
        except BaseException:
            _discard(made, new_files)
            raise
        undoing.pop_all()
        failpoint("before a copied study is backed up")
        return Copied(stored, *_with_size(new_files), backup.make(target, new_path))


def _remove_database(path: Path) -> None:
    """Remove the empty database of a copy that failed; the caller holds its lock."""
    remove(path)
    lock_of(path).unlink(missing_ok=True)


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


def _is_there(source: sqlite3.Connection, original: Stored, new_path: Path, new_name: str) -> Copied | None:
    """Return the copy that an earlier command made; None if there is no study of that name, StoreError if it is another."""
    with closing(connecting.connect(new_path, readonly=True)) as connection:
        if not studies.holds(connection, new_path, new_name):
            return None
        stored = studies.read(connection, new_path, new_name)
        files = StudyFiles(new_path, new_name)
        pairs = _pairs(original.files, files)
        try:
            _check_equal(source, original, connection, stored)
            is_copy = all(new.exists() and filecmp.cmp(old, new, shallow=False) for old, new in pairs)
        except StoreError:
            is_copy = False
    if not is_copy:
        raise StoreError(f"{new_path} has a study {new_name!r} already; give another --name")
    return Copied(stored, *_with_size(files), was_there=True)


def _with_size(files: StudyFiles) -> tuple[tuple[Path, ...], int]:
    there = tuple(path for path in (files.folder, *_beside(files)) if path.exists())
    return there, sum(map(size_of, there))


def _beside(files: StudyFiles) -> list[Path]:
    """Return the files of a study beside its folder, but for best.json, which names its study."""
    return [files.log, files.log.with_name(f"{files.log.name}.1"), files.check_page]


def _below(folder: Path) -> list[Path]:
    # Through links, too: the files of callbacks may be on another disk.
    return sorted(Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names)


def _pairs(files: StudyFiles, new: StudyFiles) -> Iterator[tuple[Path, Path]]:
    """Yield (file, where its copy is to be) of all but best.json."""
    for old_file, new_file in zip(_beside(files), _beside(new), strict=True):
        if old_file.is_file():
            yield old_file, new_file
    for old_file in _below(files.folder):
        if old_file.is_file() and not old_file.name.endswith(".partial"):
            yield old_file, new.folder / old_file.relative_to(files.folder)


def _copy_files(files: StudyFiles, new: StudyFiles) -> list[Path]:
    """Copy the files of a study; return those that were not there. StoreError, and none of them is left, if that fails."""
    pairs = list(_pairs(files, new))
    known = {file for _, file in pairs}
    there = [file for file in (new.folder, *_below(new.folder), new.best, *_beside(new)) if file.is_file()]
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
        _discard(made, new)
        if isinstance(error, OSError):
            what = f"{error.filename2 or error.filename or new.folder} can't be written: {error.strerror}"
            raise StoreError(f"{what}; nothing was copied: mend the cause and repeat the command") from None
        raise
    return made


def _discard(made: Iterable[Path], new: StudyFiles) -> None:
    """Delete the files that a copy has made, and the folders that are empty then."""
    for file in made:
        with suppress(OSError):
            file.unlink(missing_ok=True)
    for folder, _, _ in os.walk(new.folder, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


@dataclass(frozen=True, slots=True)
class _Renaming:
    """What the rows of a study have in a copy of it.

    Attributes:
        trial_ids: trial_id -> that of the copy.
        name: of the study; `new_name`, of the copy.
        new_storage: what the copy's settings have as run.storage; None for what the study has.
    """

    study_id: int
    trial_ids: Mapping[int, int]
    name: str
    new_name: str
    new_storage: str | None

    def row(self, table: str, values: dict[str, Any]) -> dict[str, Any]:
        """Return the row of the copy."""
        if "trial_id" in values:
            values["trial_id"] = self.trial_ids[values["trial_id"]]
        if "study_id" in values:
            values["study_id"] = self.study_id
        if table == "manyfit_studies":
            settings = json.loads(values["settings"])
            settings["study"]["name"] = self.new_name
            if self.new_storage is not None:
                settings["run"]["storage"] = self.new_storage
            values["settings"] = json.dumps(settings)
        elif table == "study_system_attributes":
            values |= self._note(values["key"], values["value_json"])
        return values

    def _note(self, key: str, value: str) -> dict[str, str]:
        if (match := _NOTE_OF_TRIAL.fullmatch(key)) and int(match[1]) in self.trial_ids:
            return {"key": f"dashboard:{self.trial_ids[int(match[1])]}:{match[2]}"}
        head = f"**{self.name}**"
        if key == _NOTE and str(note := json.loads(value)).startswith(head):
            return {"value_json": json.dumps(f"**{self.new_name}**{note.removeprefix(head)}")}
        return {}


def _copy_rows(
    source: sqlite3.Connection, target: sqlite3.Connection, original: Stored, new_path: Path, new_name: str
) -> None:
    """Insert all rows of a study under new ids; the caller has begun a transaction."""
    study_id = studies.id_of(source, original.path, original.name)
    new_id = _insert(target, "studies", {"study_name": new_name})
    trial_ids = {
        trial_id: _insert(target, "trials", {**values, "study_id": new_id})
        for trial_id, values in _trials(source, study_id)
    }
    storage = None if new_path == original.path else str(new_path)
    renaming = _Renaming(new_id, trial_ids, original.name, new_name, storage)
    for table, values in _rows(source, study_id, _tables(source, target)):
        _insert(target, table, renaming.row(table, values))


def _trials(connection: sqlite3.Connection, study_id: int) -> list[tuple[int, dict[str, Any]]]:
    """Return (trial_id, the other columns but study_id) of the trials of a study."""
    rows = connection.execute("SELECT * FROM trials WHERE study_id = ? ORDER BY trial_id", (study_id,))
    return [
        (row["trial_id"], {key: row[key] for key in row.keys() if key not in ("trial_id", "study_id")})  # noqa: SIM118
        for row in rows
    ]


def _rows(
    connection: sqlite3.Connection, study_id: int, tables: Mapping[str, tuple[set[str], list[str]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (table, columns) of the rows of a study and of its trials, without numbers that are a table's own."""
    for table, (columns, key) in tables.items():
        of = "trial_id" if "trial_id" in columns else "study_id"
        which = "trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)" if of == "trial_id" else "study_id = ?"
        order = ", ".join(f'"{column}"' for column in key) or "rowid"
        for row in connection.execute(f'SELECT * FROM "{table}" WHERE {which} ORDER BY {order}', (study_id,)):  # noqa: S608
            values = dict(row)
            if len(key) == 1 and key[0] != of:
                del values[key[0]]
            yield table, values


def _tables(source: sqlite3.Connection, target: sqlite3.Connection) -> dict[str, tuple[set[str], list[str]]]:
    """Return the tables with rows of a study or of a trial: name -> (columns, those of the primary key).

    A table of another program counts if both databases have it.
    """
    there = _columns(target)
    return {
        table: (set(columns), [column for _, column in sorted((place, c) for c, place in columns.items() if place)])
        for table, columns in _columns(source).items()
        if table not in ("studies", "trials")
        and columns.keys() & {"study_id", "trial_id"}
        and columns == there.get(table)
    }


def _columns(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Return table -> column -> its place in the primary key, from 1 on; 0 for others."""
    tables: dict[str, dict[str, int]] = {}
    for table, column, place in connection.execute(
        "SELECT t.name, c.name, c.pk FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    ):
        tables.setdefault(table, {})[column] = place
    return tables


def _insert(connection: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> int:
    columns = ", ".join(f'"{column}"' for column in values)
    marks = ", ".join("?" * len(values))
    cursor = connection.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', tuple(values.values()))  # noqa: S608
    return cursor.lastrowid or 0


def _check_equal(source: sqlite3.Connection, original: Stored, target: sqlite3.Connection, copied: Stored) -> None:
    """Raise StoreError unless each row of a study is that of its original, but for ids, name and place."""
    tables = _tables(source, target)
    pairs = zip_longest(_placed(source, original, tables), _placed(target, copied, tables))
    if any(one != other for one, other in pairs):
        raise StoreError(
            f"{copied.path}: the copy of {original.name!r} reads otherwise than the original; nothing was kept"
        )


def _placed(
    connection: sqlite3.Connection, stored: Stored, tables: Mapping[str, tuple[set[str], list[str]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a study with the trials' places for ids, and without the name and the place of the study."""
    study_id = studies.id_of(connection, stored.path, stored.name)
    trials = _trials(connection, study_id)
    yield from (("trials", values) for _, values in trials)
    places = {trial_id: place for place, (trial_id, _) in enumerate(trials)}
    renaming = _Renaming(0, places, stored.name, "", "")
    yield from ((table, renaming.row(table, values)) for table, values in _rows(connection, study_id, tables))
