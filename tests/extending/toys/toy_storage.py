"""A storage: a folder with a file for every commit, told to a history in memory when it is opened."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from search.errors import StoreError
from search.spec.identity import Record
from search.spec.study import StudyFile
from search.storage.memory import MemoryStorage
from search.trials.history import Commit


class Renewal(TypedDict):
    file: StudyFile
    identity: dict[str, Any] | None
    resolved: dict[str, Any] | None
    anew: dict[str, Any] | None


_COMMIT, _RECORD, _RENEWAL = TypeAdapter(Commit), TypeAdapter(Record), TypeAdapter(Renewal)


class Folder:
    def __init__(self, path, file, record):
        self._path = path
        self._memory = MemoryStorage(file, record)
        for entry in sorted(path.glob("*.*")):
            if entry.suffix == ".commit":
                self._memory.append(_COMMIT.validate_json(entry.read_bytes()))
            else:
                self._memory.renew(**_RENEWAL.validate_json(entry.read_bytes()))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    @staticmethod
    def _place(file):
        return file.storage.with_name(f"{file.name}.commits")

    @classmethod
    def exists(cls, file):
        return cls._place(file).exists()

    @classmethod
    def create(cls, file, record, **_):
        if cls.exists(file):
            raise StoreError(f"there is a study {file.name!r} already; give another --name")
        cls._place(file).mkdir()
        (cls._place(file) / "record").write_bytes(_RECORD.dump_json(record))
        return cls(cls._place(file), file, record)

    @classmethod
    def of(cls, file, **_):
        if not cls.exists(file):
            raise StoreError(f"no study {file.name!r} is in {cls._place(file)}")
        return cls(cls._place(file), file, _RECORD.validate_json((cls._place(file) / "record").read_bytes()))

    def load(self):
        return self._memory.load()

    def append(self, commit):
        noted = self._memory.append(commit)
        self._write("commit", _COMMIT.dump_json(commit))
        return noted

    def renew(self, file, identity=None, resolved=None, *, anew=None):
        renewal = {"file": file, "identity": identity, "resolved": resolved, "anew": anew}
        self._memory.renew(**renewal)
        self._write("renewal", _RENEWAL.dump_json(renewal))

    def _write(self, kind, content):
        number = len(list(self._path.glob("*.*")))
        (self._path / f"{number:06}.{kind}").write_bytes(content)

    def back_up(self):
        return ""

    def close(self):
        pass
