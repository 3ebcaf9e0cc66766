"""Checks of a study that one section of its file can't do alone."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from models.arguments import BUILDERS
from search import data
from search.errors import OptionError, UsageError
from search.policies import pruners, samplers
from search.reading import callbackchecks, hints, studychecks
from search.reading.studytext import StudyText, shorten
from search.registry import ENGINES
from search.spec import given, keras_callbacks
from search.spec.settings import MOST_EPOCHS, StudySection, TrainSection
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
from spaces import Choice, SpaceError, shown


def check(study: StudyFile, text: StudyText, *, allow_unused: bool) -> None:
    """Run the checks that one section can't do alone."""
    _check_study(study, text)
    _check_train(study, text)
    callbackchecks.check(study, text)
    _check_space(study, text)
    _check_search(study, text)
    _check_functions(study, text)
    studychecks.check_builder(study, text, allow_unused=allow_unused)
    check_storage(study, text)
    _check_engine(study, text)
    _check_data(study, text)


def check_without_space(study: StudyFile, text: StudyText) -> None:
    """Find what is wrong in any case before the builder is run to find the space, which takes seconds."""
    for check in (_check_study, _check_train, _check_functions, check_storage, _check_engine, _check_data):
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


def check_storage(study: StudyFile, text: StudyText) -> None:
    """Check that run.storage can name a database; StudyFileError if not."""
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
