"""What `manyfit init` is asked for, and the names of the files that it writes."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from search.errors import UsageError
from search.spec.names import plain_name
from search.spec.settings import StudySection

BUILDER = "my_model.py"
DATA_FUNCTION = "my_data.py"
MODELS = ("dense", "image", "sequence", "ids")


@dataclass(frozen=True, slots=True)
class Request:
    """A command line of `manyfit init`.

    Attributes:
        source: what `data.source` of the study is, or a file that a data function must read; relative to `folder`.
        folder: where the files are written.
        target: the column of a table to learn; "" to guess it.
        model: one of MODELS; "" to guess it from the shape of a row.
        name: the study's name; "" to take it from the source.
        overrides: `data.KEY=VALUE`, as of --set.
    """

    source: str
    folder: Path
    target: str = ""
    model: str = ""
    name: str = ""
    overrides: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UsageError for values that no data are needed to refuse."""
        if not self.source.strip():
            raise UsageError("--data is empty; name a file, a folder of images, sklearn:digits or my_data.py:function")
        if self.model and self.model not in MODELS:
            raise UsageError(f"--model: there are {', '.join(MODELS)}; received {self.model!r}")
        if self.name and not _is_name(self.name):
            raise UsageError(
                f"--name: a study's name has letters, digits, spaces and . _ + - and begins with a letter or digit; received "
                f"{self.name!r}"
            )
        for override in self.overrides:
            key = override.partition("=")[0].strip()
            if not key.startswith("data.") or key in ("data.source", "data.target"):
                instead = {"data.source": "--data", "data.target": "--target"}.get(key, "the file that init writes")
                raise UsageError(f"--set of init takes keys of [data]; received {override!r}; use {instead} for that")

    @property
    def study(self) -> str:
        """The study's name, which is also its file's."""
        if self.name:
            return plain_name(self.name)
        scheme, colon, name = self.source.partition(":")
        text = scheme if scheme.endswith(".py") else name if colon and "/" not in scheme else self.source
        stem = (self.folder / text).resolve().name.partition(".")[0]
        kept = "".join(c if unicodedata.category(c)[0] in "LM" or c.isdecimal() or c in "_+-" else "_" for c in stem)
        kept = kept.strip("_+- ")
        # A study named like its builder or its data function would be easy to mix up with it.
        return plain_name(kept) if kept and _is_name(kept) and kept not in ("my_model", "my_data") else "study"

    @property
    def study_file(self) -> Path:
        return self.folder / f"{self.study}.toml"


def _is_name(name: str) -> bool:
    try:
        StudySection(name=plain_name(name))
    except ValidationError:
        return False
    return True
