"""A study as a value: its settings, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from search.spec.settings import DEFAULT_EPOCHS, Settings, plain_name
from search.spec.usercode import Reference
from search.spec.vocabulary import direction_of
from spaces import Choice, Space


@dataclass(frozen=True)
class StudyFile:
    """A study as its file and the command line describe it; the resolved settings of one that is stored are the same.

    Attributes:
        path: the TOML file (of a stored study: the one that it was first started from).
        settings: every section, defaults filled in.
        database: where a stored study was found; None: where its file says.
    """

    path: Path
    settings: Settings
    database: Path | None = None

    @classmethod
    def stored(cls, path: Path, table: dict[str, Any]) -> StudyFile:
        """Return a study as a database holds it, without looking at files that may be gone by now."""
        return cls(path, Settings.model_validate(table))

    @property
    def base(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self.path.parent

    @property
    def name(self) -> str:
        return self.settings.study.name or plain_name(self.path.stem)

    @cached_property
    def space(self) -> Space:
        return Space.parse(self.settings.space)

    @property
    def direction(self) -> str:
        """ "maximize" or "minimize"."""
        return self.settings.study.direction or direction_of(self.settings.study.objective) or "minimize"

    @property
    def storage(self) -> Path:
        """The SQLite file; by default beside the study file."""
        if self.database is not None:
            return self.database
        location = self.settings.run.storage.removeprefix("sqlite:///")
        return (self.base / location if location else self.path.with_suffix(".db")).resolve()

    @property
    def epochs(self) -> int:
        """The most epochs that a trial may have."""
        searched = self.space.get("epochs")
        if searched is None:
            return self.settings.study.epochs or DEFAULT_EPOCHS
        most = int(max(searched.values())) if isinstance(searched, Choice) else int(searched.high)
        # Under a condition: without it a trial has the epochs of a study that says none.
        return max(most, DEFAULT_EPOCHS) if searched.when else most

    @property
    def builder(self) -> Reference | None:
        """The user's own builder; None for one of ours in `models/`."""
        return Reference.parse(self.settings.model.build, self.base)

    def beside(self, suffix: str) -> Path:
        """Return the path of what is kept beside the study's database: its log, its best.json."""
        return beside(self.storage, self.name, suffix)

    def fixed(self) -> dict[str, Any]:
        """Return what every config of the study has beside its parameters: the arguments of [model] and [train]."""
        train = self.settings.train
        return {
            **self.settings.model.arguments,
            "optimizer": train.optimizer,
            "batch_size": train.batch_size,
            "epochs": self.settings.study.epochs or DEFAULT_EPOCHS,
            **train.numbers,
        }


def beside(storage: Path, name: str, suffix: str) -> Path:
    """Return the path of what is kept of the study `name` beside its database: NAME.best.json, say.

    A database that is not called like its study gives its own name, too: two in one folder may each have a study `name`. No
    study's name holds an @, so that no two share a path.
    """
    if plain_name(storage.stem) == name:
        # As the file is written: two files whose names differ in the form of an accent are two.
        return storage.with_name(f"{storage.stem}{suffix}")
    return storage.with_name(f"{name}@{storage.stem}{suffix}")
