"""What a .keras file that manyfit wrote says of itself: the key `manyfit` of the metadata in it. Keras does not read it.

Nothing here imports keras.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search import durable
from search.errors import UsageError

METADATA = "metadata.json"
KEY = "manyfit"
FORMAT = 1


class _Notes(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ColumnNotes(_Notes):
    """A column of a table that the model takes."""

    name: str
    kind: str = Field(description="number, boolean, category, text or date")
    are_texts: bool = Field(default=False, description="whether its cells enter the model as texts")
    order: str = Field(default="", description="of the parts of a date: ymd, dmy or mdy")
    has_missing: bool = Field(default=False, description="whether training rows had missing values")


class InputNotes(_Notes):
    """An input of the model: an array, a table whose columns enter one by one, or texts."""

    name: str = Field(default="", description="empty for a single input")
    kind: Literal["array", "table", "texts"] = "array"
    shape: list[int] = Field(default=[], description="of one row of an array")
    dtype: str = Field(default="", description="of an array, as the source had it")
    enters: str = Field(
        default="", description="the dtype in which the study's model got it: float32, or of whole numbers"
    )
    columns: list[ColumnNotes] = Field(
        default=[], description="of a table; or the features of an array, where they have names"
    )


class OutputNotes(_Notes):
    """An output of the model."""

    name: str = Field(default="", description="empty for a single output")
    task: str = Field(description="classification, binary or regression")
    class_names: list[str] = Field(default=[], description="the class of each label 0, 1, ...; empty for a regression")
    shape: list[int | None] = Field(description="of one row of the output")
    gives: Literal["values", "probabilities", "logits", "scores"] = Field(
        description="logits become probabilities by `squash`; scores are outputs of classes that are no probabilities"
    )
    squash: Literal["", "softmax", "sigmoid"] = ""
    threshold: float | None = Field(
        default=None, description="of one score: above it is the second class; None where that is not known"
    )
    labels: str = Field(default="labels", description="the form that evaluate takes: labels (numbers) or one-hot")
    mean: list[float] = Field(default=[], description="of targets that were scaled: target = output * spread + mean")
    spread: list[float] = []


class PreprocessingNotes(_Notes):
    """How rows of the source become the numbers that the first trained layer gets."""

    is_inside: bool = Field(description="whether the model does it; if not, it takes rows after it")
    how: str = ""
    mean: list[float] = Field(default=[], description="of each feature, if it is not inside: (x - mean) / spread")
    spread: list[float] = []


class ModelNotes(_Notes):
    """Where a model comes from, what it takes, and what it gives."""

    format: Literal[1] = 1
    version: str = Field(description="of manyfit")
    kind: Literal["trial", "retrained", "ensemble"] = "trial"
    study: str
    database: str = Field(description="the study's database, when the file was written")
    trials: list[int] = Field(description="the trial that it is of; several of an ensemble")
    config: dict[str, Any] = Field(description="of the trial, or of the best one of an ensemble")
    objective: str
    value: float | None = Field(description="the objective on the study's validation rows")
    epoch: int | None = Field(default=None, description="of the weights, counted from 1")
    is_full: bool = Field(default=False, description="whether it was trained on the validation rows, too")
    backend: str = Field(description="jax or tensorflow: what trained it")
    fingerprint: str = Field(description="of the study's data, as its models got them")
    fitted: str = Field(
        description="fingerprint of the scaling and the encodings that were fitted on the training rows"
    )
    source: str = Field(description="the study's data, as [data] names them")
    build: str = Field(description="the study's builder")
    encoding: str | None = Field(default=None, description="of a table in a text file; None is UTF-8")
    form: Literal["one", "dict", "tuple"] = Field(description="in which the model takes its inputs")
    window: int = Field(default=0, description="rows of a series in a row; 0 without windows")
    image_size: list[int] = Field(default=[], description="to which images of the study were resized; empty if not")
    is_upright: bool = Field(default=True, description="whether photos were turned as EXIF says")
    inputs: list[InputNotes]
    outputs: list[OutputNotes]
    preprocessing: PreprocessingNotes

    @property
    def has_texts(self) -> bool:
        """Whether texts enter the model, whose layers for them need TensorFlow."""
        return any(each.kind == "texts" or any(column.are_texts for column in each.columns) for each in self.inputs)


def read(path: Path) -> ModelNotes:
    """Return what a model file says of itself; UsageError for a file that is missing, damaged or none of manyfit's."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; `manyfit export STUDY --model {path.name}` writes one")
    try:
        with zipfile.ZipFile(path) as archive:
            table = json.loads(archive.read(METADATA))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise UsageError(f"{path}: no .keras file, or a damaged one: {error}") from None
    if not isinstance(table, dict) or KEY not in table:
        raise UsageError(
            f"{path}: this model is none of manyfit's, or Keras has saved it again since: it does not say what rows it "
            "takes; write it by `manyfit export STUDY --model FILE.keras`"
        )
    given = table[KEY]
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        its_format = given.get("format") if isinstance(given, dict) else given
        raise UsageError(
            f"{path}: is of another version of manyfit: its notes have the format {its_format!r}, not {FORMAT}"
        )
    try:
        return ModelNotes.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: its notes are damaged: {where}: {first['msg']}; export the model again") from None


def put(path: Path, notes: ModelNotes) -> None:
    """Write the notes into a model file that Keras has saved, in place of those that it may have."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.noted")
    try:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(partial, "w") as new:
            for item in old.infolist():
                if item.filename == METADATA:
                    table = {**json.loads(old.read(item)), KEY: notes.model_dump()}
                    new.writestr(METADATA, json.dumps(table))
                    continue
                with old.open(item) as source, new.open(item, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        durable.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
