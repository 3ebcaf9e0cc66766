"""Study TOML -> StudyFile: read the file, apply overrides, validate. Every error names file, line and key.

Nothing here imports keras, and nothing here runs the user's code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from search.errors import DataError, UsageError
from search.reading import candidates, crosschecks, signatures, studychecks
from search.reading.studytext import StudyText
from search.spec import given
from search.spec.declared_space import DeclaredSpace
from search.spec.settings import Settings
from search.spec.study import StudyFile
from search.spec.vocabulary import (
    closest,
)
from spaces import Space, SpaceError, load_preset, preset_names

Finder: TypeAlias = Callable[[StudyFile], DeclaredSpace]
"""Runs the builder of a study without a space and returns what it found; UsageError if it has another form."""


def read(
    path: Path, overrides: Sequence[str] = (), *, allow_unused: bool = False, find: Finder | None = None
) -> StudyFile:
    """Read and validate a study file; `overrides` are the `key.path=value` of `--set`, applied in order.

    With `allow_unused`, names that a built-in builder does not read are accepted. A file without [space] whose builder has
    KerasTuner's form gets the space that `find` returns; without `find`, the study has none and is not checked any further.

    Raises StudyFileError with file, line, key, what was received and what to do. Takes milliseconds, or up to half a
    second if a sampler must be imported to check its options.
    """
    text = StudyText.read(path)
    if not text.table:
        raise text.error("", "the file is empty; it needs at least [data] with a source and a [space]")
    return build(path, _with_space(path, text, overrides, find), allow_unused=allow_unused)


def written(path: Path, settings: Mapping[str, Any], overrides: Sequence[str], find: Finder) -> StudyFile:
    """Return the study of a command line that names a builder and data, as `read` would return it from a file at `path`."""
    text = StudyText(Path("the command line"), "", dict(settings))
    return build(path, _with_space(path, text, overrides, find), allow_unused=False)


def with_space(path: Path, text: StudyText, find: Finder, objects: given.Given | None) -> StudyText:
    """Return the table of a Python program's study with the space that its builder asks for; `objects` as for `build`."""
    return _with_space(path, text, (), find, objects)


def _with_space(
    path: Path, text: StudyText, overrides: Sequence[str], find: Finder | None, objects: given.Given | None = None
) -> StudyText:
    """Apply the overrides, and add the space that is found for a study without one: it may be overridden, too."""
    of_space = [override for override in overrides if override.partition(".")[0].strip() == "space"]
    rest = text.overridden_by([override for override in overrides if override not in of_space])
    if find is None or "space" in rest.table:
        return text.overridden_by(overrides)
    try:
        study = StudyFile(path.resolve(), Settings.model_validate(rest.table), given=objects)
    except ValidationError as error:
        raise rest.invalid(error) from None
    if not may_be_hypermodel(study):
        return text.overridden_by(overrides)
    crosschecks.check_without_space(study, rest)
    try:
        declared = find(study)
    except DataError:
        raise
    except UsageError as error:
        raise rest.error("model.build", str(error).removeprefix("model.build: ")) from None
    table = {**rest.table, "space": dict(declared.space)}
    if declared.start and not study.settings.search.start:
        table["search"] = {**table.get("search", {}), "start": [dict(declared.start)]}
    if declared.epochs and study.settings.study.epochs is None and "epochs" not in declared.space:
        table["study"] = {**table.get("study", {}), "epochs": declared.epochs}
    return replace(rest, table=table).overridden_by(of_space)


def check_text(path: Path, text: str) -> None:
    """Check the text of a study file that is to be at `path`; StudyFileError as from `read`."""
    build(path, StudyText(path, text, tomllib.loads(text)), allow_unused=True)


def may_be_hypermodel(study: StudyFile) -> bool:
    """Return whether a builder may ask for its parameters by itself, in KerasTuner's form."""
    builder = study.builder
    return builder is not None and signatures.form_of(builder.path, builder.function) != "config"


def locate(path: Path) -> tuple[Path, str]:
    """Return the database and the name of a file's study, without reading its data or model, which may be gone."""
    text = StudyText.read(path)
    try:
        study = StudyFile(path.resolve(), Settings.model_validate(_with_preset(text)))
    except ValidationError as error:
        raise text.invalid(error) from None
    crosschecks.check_storage(study, text)
    return study.storage, study.name


def stored_with(file: StudyFile, storage: Path, overrides: Sequence[str]) -> StudyFile:
    """Return a stored study with some keys changed; it stays in the database `storage`."""
    table = file.settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    text = StudyText(storage, "", table).overridden_by(overrides)
    if any(f"{key}.".startswith("run.storage.") for key in text.overridden):
        raise text.error(
            "run.storage", "a study that is named by its database stays in it; copy the file to have it elsewhere"
        )
    # A stored study keeps unused names that it began with.
    return build(file.path, text, storage.resolve(), allow_unused=True)


def build(
    path: Path,
    text: StudyText,
    database: Path | None = None,
    *,
    allow_unused: bool,
    objects: given.Given | None = None,
) -> StudyFile:
    """Validate the table of a study; `path` is its file, and `objects` are those of the Python program that made it."""
    try:
        settings = Settings.model_validate(_with_preset(text))
    except ValidationError as error:
        raise text.invalid(error) from None
    settings = studychecks.spelled_as_listed(_with_candidates(settings, path, text))
    studychecks.check_ranges(settings, text)
    studychecks.check_parents(settings, text)
    # Store the name in the settings, so that the study keeps it when the file is renamed.
    section = settings.study.model_copy(update={"name": StudyFile(path.resolve(), settings).name})
    study = StudyFile(path.resolve(), settings.model_copy(update={"study": section}), database, objects)
    try:
        space = study.space
    except SpaceError as error:
        raise text.error(f"space.{error.key}".rstrip("."), str(error)) from None
    if not space and "space" not in text.table and may_be_hypermodel(study):
        crosschecks.check_without_space(study, text)
        return study  # its space is found when it is run
    if not space:
        studychecks.check_builder(study, text, allow_unused=allow_unused)
        raise text.error("space", "there is nothing to search; give at least one parameter, or use a preset")
    crosschecks.check(study, text, allow_unused=allow_unused)
    return study


def _with_candidates(settings: Settings, path: Path, text: StudyText) -> Settings:
    """Read the candidates, and describe the space that they span if there is no other."""
    rows = settings.search.candidates
    if not rows:
        return settings
    try:
        if isinstance(rows, str):
            rows = tuple(candidates.read(rows, path.resolve().parent))
        table = settings.space or candidates.space_of(rows)
        rows = tuple(candidates.checked(rows, Space.parse(table)))
    except SpaceError as error:
        raise text.error("search.candidates", f"{error.key}: {error}" if error.key else str(error)) from None
    search = settings.search.model_copy(update={"candidates": rows})
    return settings.model_copy(update={"space": table, "search": search})


def _with_preset(text: StudyText) -> dict[str, Any]:
    """Resolve `use`: add the preset's parameters, except those that the file fixes or defines itself."""
    table = text.table
    space = table.get("space", {})
    if not isinstance(space, dict) or "use" not in space:
        return table
    try:
        preset = load_preset(str(space["use"]))
    except SpaceError as error:
        raise text.error("space.use", f"{error}{closest(str(space['use']), preset_names())}") from None
    sections = [table.get(name, {}) for name in ("model", "train")]
    fixed = {key for section in sections if isinstance(section, dict) for key in section}
    own = {name: entry for name, entry in space.items() if name != "use"}
    return {**table, "space": {**{name: entry for name, entry in preset.items() if name not in fixed}, **own}}
