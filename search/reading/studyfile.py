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

from models.arguments import BUILDERS
from search import data
from search.errors import DataError, OptionError, UsageError
from search.policies import pruners, samplers
from search.reading import callbackchecks, candidates, hints, signatures, studychecks
from search.reading.studytext import StudyText, shorten
from search.registry import ENGINES
from search.spec import given, keras_callbacks
from search.spec.found import Found
from search.spec.settings import MOST_EPOCHS, Settings, StudySection, TrainSection
from search.spec.study import StudyFile
from search.spec.usercode import Reference
from search.spec.vocabulary import (
    OPTIMIZERS,
    SCHEDULE_NUMBERS,
    TRAIN_NUMBERS,
    TRAIN_PARAMETERS,
    closest,
    direction_of,
    optimizer_arguments,
    optimizer_class,
)
from spaces import Choice, Space, SpaceError, load_preset, preset_names, shown

Finder: TypeAlias = Callable[[StudyFile], Found]
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
    _check_without_space(study, rest)
    try:
        found = find(study)
    except DataError:
        raise
    except UsageError as error:
        raise rest.error("model.build", str(error).removeprefix("model.build: ")) from None
    table = {**rest.table, "space": dict(found.space)}
    if found.start and not study.settings.search.start:
        table["search"] = {**table.get("search", {}), "start": [dict(found.start)]}
    if found.epochs and study.settings.study.epochs is None and "epochs" not in found.space:
        table["study"] = {**table.get("study", {}), "epochs": found.epochs}
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
    _check_storage(study, text)
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
        _check_without_space(study, text)
        return study  # its space is found when it is run
    if not space:
        studychecks.check_builder(study, text, allow_unused=allow_unused)
        raise text.error("space", "there is nothing to search; give at least one parameter, or use a preset")
    _check(study, text, allow_unused=allow_unused)
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


def _check(study: StudyFile, text: StudyText, *, allow_unused: bool) -> None:
    """Run the checks that one section can't do alone."""
    _check_study(study, text)
    _check_train(study, text)
    callbackchecks.check(study, text)
    _check_space(study, text)
    _check_search(study, text)
    _check_functions(study, text)
    studychecks.check_builder(study, text, allow_unused=allow_unused)
    _check_storage(study, text)
    _check_engine(study, text)
    _check_data(study, text)


def _check_without_space(study: StudyFile, text: StudyText) -> None:
    """Find what is wrong in any case before the builder is run to find the space, which takes seconds."""
    for check in (_check_study, _check_train, _check_functions, _check_storage, _check_engine, _check_data):
        check(study, text)


def _check_data(study: StudyFile, text: StudyText) -> None:
    try:
        data.check(study.settings.data, study.base)
    except UsageError as error:
        raise text.error(getattr(error, "key", "data.source"), str(error)) from None


def _check_study(study: StudyFile, text: StudyText) -> None:
    section = study.settings.study
    if section.confirms:
        raise text.error(
            "study.confirms", "only `manyfit confirm` makes such a study, and goes on with it; remove the key"
        )
    studychecks.check_objective(study, text)
    if section.direction is None and direction_of(section.objective) is None:
        hint = studychecks.objective_hint(study)
        raise text.error(
            "study.objective",
            f"whether {section.objective!r} is better high or low can't be told by its name{hint}; "
            'add direction = "maximize" or "minimize"',
        )
    try:
        StudySection(name=study.name)
    except ValidationError:
        raise text.error(
            "study.name", f"the file's name {study.name!r} can't name a study; add name under [study]"
        ) from None


def _check_train(study: StudyFile, text: StudyText) -> None:
    numbers, optimizers = study.settings.train.numbers, _optimizers(study)
    for key, value in numbers.items():
        if key not in TRAIN_NUMBERS:
            hint = hints.key_hint(key, [*TRAIN_NUMBERS, *TrainSection.model_fields], "train")
            raise text.error(f"train.{key}", f"unknown key{hint}; remove it; arguments of the builder go under [model]")
        try:
            TRAIN_NUMBERS[key].check(key, value)
        except ValueError as error:
            raise text.error(f"train.{key}", str(error)) from None
        # `_check_space` reports a misspelt name among searched optimizers.
        known = [o for o in optimizers if isinstance(o, str) and o.lower() in {k.lower() for k in OPTIMIZERS}]
        if known and not any(key in _numbers_of(optimizer) for optimizer in known):
            supporting = [o.lower() for o in OPTIMIZERS if key in _numbers_of(o)]
            names = ", ".join(map(repr, known))
            raise text.error(f"train.{key}", f"{names} has no {key}; remove it, or use one of {', '.join(supporting)}")
    is_scheduled = numbers.get("schedule", "constant") != "constant" or "schedule" in study.space
    if "end_factor" in numbers and not is_scheduled:
        raise text.error("train.end_factor", 'has no effect without a schedule; add schedule = "cosine", say')


def _check_space(study: StudyFile, text: StudyText) -> None:
    settings = study.settings
    fixed_in = {
        **dict.fromkeys(settings.model.arguments, "model"),
        **dict.fromkeys(settings.train.model_fields_set | set(settings.train.numbers), "train"),
        **({"epochs": "study"} if settings.study.epochs is not None else {}),
    }
    for name, parameter in study.space.items():
        if name in fixed_in:
            raise text.error(
                f"space.{name}", f"{name!r} is both searched here and fixed in [{fixed_in[name]}]; remove one of them"
            )
        if name in TrainSection.model_fields and name not in TRAIN_PARAMETERS:
            raise text.error(f"space.{name}", f"{name} can't be searched; fix it under [train]")
        try:
            for value in studychecks.extremes(parameter):
                _check_value(name, value)
        except ValueError as error:
            raise text.error(f"space.{name}", str(error)) from None
    studychecks.check_optimizers(study, text)


def _check_value(name: str, value: Any) -> None:
    """Raise ValueError if training can't use `value` as its parameter `name`."""
    if name in TRAIN_NUMBERS:
        TRAIN_NUMBERS[name].check(name, value)
    elif name == "optimizer":
        optimizer_class(value if isinstance(value, str) else repr(value))
    elif name in ("batch_size", "epochs") and (type(value) is not int or value < 1):
        raise ValueError(f"{name} must be a whole number of at least 1; received {shown(value)}")
    if name == "epochs" and value > MOST_EPOCHS:
        raise ValueError(
            f"epochs must be at most {MOST_EPOCHS}; received {value}; early stopping ends a training before"
        )


def _check_search(study: StudyFile, text: StudyText) -> None:
    search, space = study.settings.search, study.space
    if search.learn_from is not None and "://" in search.learn_from.database:
        # Do not repeat the address: it may hold a password.
        scheme = search.learn_from.database.partition("://")[0]
        raise text.error(
            "search.learn_from", f'must be an SQLite file, such as "studies.db"; received an address of {scheme!r}'
        )
    seen: dict[str, int] = {}
    for index, start in enumerate(search.start):
        try:
            params = space.check(start)
        except SpaceError as error:
            key = f"search.start.{index}.{error.key}"
            if error.key not in space:
                raise studychecks.missing_parameter_error(study, text, error.key, key, str(error)) from None
            raise text.error(key, str(error)) from None
        active = [name for name in space if space.is_active(name, params)]
        if search.duplicates or not all(name in params for name in active):
            continue
        if (first := seen.setdefault(repr([params[name] for name in active]), index)) != index:
            raise text.error(
                f"search.start.{index}",
                f"is the config of start {first} again; drop one, or set search.duplicates = true",
            )
    try:
        pruners.make(search.pruner.name, search.pruner.options, epochs=study.epochs)
    except OptionError as error:
        raise text.error(f"search.pruner.{error.option}".rstrip("."), str(error)) from None
    if search.candidates and search.duplicates:
        raise text.error(
            "search.duplicates",
            "each candidate is trained once; remove it, or set study.repeats to train each several times",
        )
    if search.candidates and search.sampler.name == "grid":
        return  # in their order
    try:
        samplers.check(search.sampler.name, search.sampler.options, study.space)
    except OptionError as error:
        raise text.error(f"search.sampler.{error.option}".rstrip("."), str(error)) from None


def _optimizers(study: StudyFile) -> list[str]:
    searched = study.space.get("optimizer")
    return list(searched.choices) if isinstance(searched, Choice) else [study.settings.train.optimizer]


def _numbers_of(optimizer: str) -> tuple[str, ...]:
    return (*optimizer_arguments(optimizer), "label_smoothing", *SCHEDULE_NUMBERS)


def _check_functions(study: StudyFile, text: StudyText) -> None:
    """Check that the user's functions exist, and that any other builder is a built-in one."""
    if fault := given.missing(study.settings, study.given):
        raise text.error(*fault)
    model, train = study.settings.model, study.settings.train
    entries: list[tuple[str, Any]] = [("model.build", model.build)]
    entries += [(f"train.loss.{name}".rstrip("."), entry) for name, entry in train.losses.items()]
    for name, metrics in (train.metrics_by_output or {}).items():
        key = f"train.metrics.{name}".rstrip(".")
        entries += [(f"{key}.{index}", entry) for index, entry in enumerate(metrics)]
    entries += [
        (f"train.callbacks.{index}", keras_callbacks.name_of(entry)) for index, entry in enumerate(train.callbacks)
    ]
    for key, entry in entries:
        try:
            reference = Reference.parse(entry, study.base) if isinstance(entry, str) else None
            if reference is not None:
                reference.check()
        except UsageError as error:
            raise text.error(key, str(error)) from None
        if reference is None and key.startswith("train.callbacks") and ":" in str(entry):
            raise text.error(key, f'must be a function of yours, such as "my_model.py:make"; received {entry!r}')
    if study.builder is None and model.build not in BUILDERS:
        raise text.error(
            "model.build",
            f"no such builder: {model.build!r}{closest(model.build, BUILDERS)}; there are "
            f'{", ".join(sorted(BUILDERS))}, or name a function of yours, such as "my_model.py:build"',
        )


def _check_engine(study: StudyFile, text: StudyText) -> None:
    engine = study.settings.run.engine
    if engine != "auto" and engine not in ENGINES:
        *first, last = map(repr, ("auto", *ENGINES))
        known = f"{', '.join(first)} or {last}"
        raise text.error("run.engine", f"must be {known}; received {engine!r}{closest(engine, ('auto', *ENGINES))}")


def _check_storage(study: StudyFile, text: StudyText) -> None:
    location = study.settings.run.storage
    scheme, separator, rest = location.partition("://")
    if separator and (scheme != "sqlite" or not rest.startswith("/") or "?" in rest):
        # Do not repeat the address: it may hold a password.
        what = f"an address of {scheme!r}" if scheme != "sqlite" else "an address with a host or options"
        raise text.error("run.storage", f'must be an SQLite file, such as "studies.db"; received {what}')
    try:
        storage = study.storage
        if storage.is_dir() or storage == study.path:
            what = "the study file itself" if storage == study.path else "a folder"
            raise text.error("run.storage", f"must name a file to keep the study in; received {what}: {location!r}")
        if not storage.parent.is_dir():
            raise text.error("run.storage", f"the folder {storage.parent} is not there; make it first")
    except (OSError, ValueError, RuntimeError) as error:
        # Before Python 3.13 a circle of links raises RuntimeError.
        reason = getattr(error, "strerror", None) or error
        raise text.error("run.storage", f"can't name a file: {reason}; received {shorten(location)}") from None
