"""Where the files of a study are: log and best.json, checkpoints and weights of its members. Nothing here writes."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from search.spec.names import plain_name
from search.spec.study import StudyFile
from search.trials.confirmation import SUFFIX
from search.trials.events import Member

_OF_CALLBACK = re.compile(r"\.?trial-(\d+)(?:\.(\d+))?(?:\.csv|\.keras|\.weights\.h5)?(?:\.partial)?")


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """The files of a study beside its database; they may not exist.

    If the database has another name than the study, each path contains both names: two databases in one folder may each
    have a study `name`. A study's name never contains @, so two studies never share a path.

    Attributes:
        database: the database of the study.
        name: the name of the study.
    """

    database: Path
    name: str

    @classmethod
    def of(cls, file: StudyFile) -> StudyFiles:
        """Return the files of the study that `file` describes."""
        return cls(file.storage, file.name)

    @classmethod
    def shown(cls, file: StudyFile) -> StudyFiles:
        """Return the files whose log and best.json are those of a study: of the study that it confirms, if it does."""
        name = file.name.removesuffix(SUFFIX) if file.settings.study.confirms else file.name
        return cls(file.storage, name)

    @property
    def best(self) -> Path:
        """The best.json that `run` writes."""
        return self._beside(".best.json")

    @property
    def report(self) -> Path:
        """The page that `report` writes."""
        return self._beside(".report.html")

    @property
    def check_page(self) -> Path:
        """The page that `check` writes."""
        return self._beside(".check.html")

    @property
    def log(self) -> Path:
        return self._beside(".log")

    @property
    def folder(self) -> Path:
        """The folder of the kept weights and of the checkpoints."""
        return self._beside(".files")

    @property
    def running(self) -> Path:
        """The folder of the checkpoints, within `folder`."""
        return self.folder / "running"

    @property
    def callbacks(self) -> Path:
        """The folder of what Keras's callbacks write that the study names, within `folder`."""
        return self.folder / "callbacks"

    def of_callback(self, name: str, member: Member, suffix: str) -> Path:
        """Return the path of what a callback writes for a member: a file, or a folder if the suffix is empty."""
        return self.callbacks / name / f"{_stem(member)}{suffix}"

    def all_of_callbacks(self, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
        """Yield (key of the member, path) of all that callbacks of these names wrote, half-written files included."""
        for name in names:
            for path in sorted((self.callbacks / name).glob("*")):
                if match := _OF_CALLBACK.fullmatch(path.name):
                    yield f"{match[1]}.{match[2] or 0}", path

    def weights(self, member: Member) -> Path:
        """Return the path of a member's kept weights."""
        return self.folder / f"{_stem(member)}.npz"

    def checkpoint(self, worker: int, number: int) -> Path:
        """Return the path of a worker's checkpoint of this number, counted from 1; it holds all members of the worker."""
        return self.running / f"{worker}.{number}.npz"

    def all_weights(self) -> list[Path]:
        """Return the files of kept weights that exist."""
        return sorted(self.folder.glob("trial-*.npz"))

    def all_checkpoints(self) -> list[Path]:
        """Return the checkpoints of all workers that exist."""
        return sorted(self.running.glob("[0-9]*.npz"))

    def checkpoints_of(self, worker: int) -> list[Path]:
        """Return the checkpoints of a worker that exist, the newest first."""
        return sorted(self.running.glob(f"{worker}.*.npz"), key=checkpoint_number, reverse=True)

    def partial_bests(self) -> list[Path]:
        """Return the half-written best.json files that killed commands left."""
        return sorted(self.best.parent.glob(f".{glob.escape(self.best.name)}.[0-9]*.partial"))

    def all(self) -> list[Path]:
        """Return the paths of all files; the folder counts as one."""
        return [
            self.folder,
            self.best,
            self.check_page,
            self.log,
            self.log.with_name(f"{self.log.name}.1"),
            *self.partial_bests(),
        ]

    def _beside(self, suffix: str) -> Path:
        # Keep the form of the stem: names that differ only in the form of an accent belong to different files.
        stem = self.database.stem
        return self.database.with_name(f"{stem if plain_name(stem) == self.name else f'{self.name}@{stem}'}{suffix}")


def _stem(member: Member) -> str:
    return f"trial-{member.trial}" + (f".{member.replica}" if member.replica else "")


def checkpoint_number(path: Path) -> int:
    """Return the number of a checkpoint, from its path."""
    return int(path.name.split(".")[1])


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; 0 if there is nothing."""
    size = 0
    for file in path.rglob("*") if path.is_dir() else (path,):
        with suppress(OSError):
            size += file.stat().st_size if file.is_file() else 0
    return size
