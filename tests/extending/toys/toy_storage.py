"""A storage: a folder with a file for every commit, told to a history in memory when it is opened."""

from __future__ import annotations

from pydantic import TypeAdapter

from search.errors import StoreError
from search.spec.identity import Record
from search.storage.memory import MemoryStorage
from search.trials.history import Commit

_COMMIT, _RECORD = TypeAdapter(Commit), TypeAdapter(Record)


class Folder:
    def __init__(self, path, file, record):
        self._path = path
        self._memory = MemoryStorage(file, record)
        for commit in sorted(path.glob("*.commit")):
            self._memory.append(_COMMIT.validate_json(commit.read_bytes()))

    @staticmethod
    def _place(file):
        return file.beside(".commits")

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
        number = len(list(self._path.glob("*.commit")))
        (self._path / f"{number:06}.commit").write_bytes(_COMMIT.dump_json(commit))
        return self._memory.append(commit)

    def renew(self, file, identity=None, resolved=None, *, anew=None):
        self._memory.renew(file, identity, resolved, anew=anew)

    def back_up(self):
        return ""

    def close(self):
        pass
