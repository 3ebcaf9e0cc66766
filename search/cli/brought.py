"""Studies that a command line describes without a study file: --build, --data and --write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.errors import UsageError

if TYPE_CHECKING:
    from search.sessions.reporter import Reporter
    from search.spec.study import StudyFile

Build = Annotated[
    str,
    typer.Option(
        "--build", metavar="FILE.py:NAME", help="Instead of a study file: a builder in KerasTuner's form, build(hp)."
    ),
]
Data = Annotated[
    str, typer.Option("--data", metavar="SOURCE", help="With --build: the data, as data.source takes them.")
]
Write = Annotated[
    Path | None,
    typer.Option(
        "--write", metavar="FILE", help="Write the study as a file, with the space that was found, and use that file."
    ),
]


@dataclass(frozen=True)
class Brought:
    """What a command line names: a study file or a database, or a builder and data.

    Attributes:
        study: the study file or the database; None with `build`.
        write: the study file to write, or None.
    """

    study: Path | None
    build: str = ""
    data: str = ""
    write: Path | None = None

    def check(self) -> None:
        """Raise UsageError unless there is either a study, or a builder with data."""
        if self.study is not None and (self.build or self.data):
            given = "--build" if self.build else "--data"
            key, value = ("model.build", self.build) if self.build else ("data.source", self.data)
            raise UsageError(
                f"{given} describes a study that has no file; received the file {self.study}, too; leave one of them out, "
                f"or write --set {key}={value}"
            )
        if self.study is None and not (self.build and self.data):
            missing = "a study file" if not (self.build or self.data) else "--data" if self.build else "--build"
            raise UsageError(
                f"{missing} is missing; write `manyfit run STUDY`, or --build my_tuner.py:build --data x.npz for a builder "
                "in KerasTuner's form"
            )
        if self.write is not None and self.write.suffix != ".toml":
            raise UsageError(f"--write: a study file ends in .toml; received {self.write}")
        if self.write is not None and self.write.exists():
            raise UsageError(
                f"--write: {self.write} is there already; `manyfit run {self.write}` runs it, or name another file"
            )
        if self.write is not None and self.write.resolve().parent != self._base.resolve():
            raise UsageError(
                f"--write: the paths of a study are relative to its folder {self._base.resolve()}; received {self.write}; "
                "write the file there"
            )

    @property
    def _base(self) -> Path:
        return Path() if self.study is None else self.study.parent

    @property
    def target(self) -> Path:
        """The study file or the database by which other commands find the study."""
        if self.write is not None:
            return self.write
        return self.study if self.study is not None else self._path.with_suffix(".db")

    @property
    def _path(self) -> Path:
        """Where the file of a study without one would be: its database and its exports are beside it."""
        return Path(f"{Path(self.build.rpartition(':')[0] or 'study').stem}.toml")

    def read(self, overrides: Sequence[str], reporter: Reporter) -> StudyFile:
        """Return the study of a builder and data."""
        from search.reading import studyfile
        from search.sessions.space_finder import SpaceFinder

        sections = {"model": {"build": self.build}, "data": {"source": self.data}}
        return studyfile.written(self.write or self._path, sections, overrides, SpaceFinder(reporter))


def write(file: StudyFile, path: Path) -> StudyFile:
    """Write a study as a file and return the study of that file."""
    from search.reading import studyfile, tomltext
    from search.spec.names import plain_name
    from search.views import export

    settings = file.settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    if settings.get("study", {}).get("name") == plain_name(path.stem):
        del settings["study"]["name"]
    comment = f"# The space of {file.settings.model.build}, found by running it."
    export.write(path, f"{comment}\n\n{tomltext.document(settings)}\n")
    return studyfile.read(path)
