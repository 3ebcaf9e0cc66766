"""A study as a value: its settings, and values derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from search.spec.given import Given
from search.spec.names import plain_name
from search.spec.settings import DEFAULT_EPOCHS, Settings, as_begun
from search.spec.usercode import Reference
from search.spec.vocabulary import direction_in_use
from spaces import Choice, Space


@dataclass(frozen=True)
class StudyFile:
    """A study as its file and the command line describe it, or as a database stores it.

    Attributes:
        path: the TOML file; for a stored study, the file of its first start.
        settings: every section, defaults filled in.
        database: the database of a stored study; None to use `settings.run.storage`.
        given: the objects that the settings name, if a Python program made the study and this is that program.
    """

    path: Path
    settings: Settings
    database: Path | None = None
    given: Given | None = field(default=None, compare=False)

    @classmethod
    def stored(cls, path: Path, table: dict[str, Any]) -> StudyFile:
        """Return a study as a database holds it, without reading files, which may be gone."""
        return cls(path, Settings.model_validate(as_begun(table, table["study"]["seed"])))

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
        return direction_in_use(self.settings.study.direction, self.settings.study.objective)

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
        # If the condition of `epochs` does not hold, a trial has the default epochs.
        return max(most, DEFAULT_EPOCHS) if searched.when else most

    @property
    def builder(self) -> Reference | None:
        """The user's own builder; None for a built-in one in `models/`."""
        return Reference.parse(self.settings.model.build, self.base)

    def fixed(self) -> dict[str, Any]:
        """Return the fixed values of every config of the study: the arguments of [model] and [train]."""
        train = self.settings.train
        return {
            **self.settings.model.arguments,
            "optimizer": train.optimizer,
            "batch_size": train.batch_size,
            "epochs": self.settings.study.epochs or DEFAULT_EPOCHS,
            **train.numbers,
        }
