"""What a study file says that its builder, its objective or its ranges can't be, and what is allowed and probably not meant.

Nothing here imports keras, and nothing here runs a user's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from models.arguments import BUILDERS, Argument
from search.errors import ManyfitError, StudyFileError
from search.reading import foreign, hints, signatures
from search.reading.studytext import StudyText, shorten
from search.reading.tomltext import value as toml
from search.spec.settings import Settings
from search.spec.vocabulary import TRAIN_PARAMETERS, closest
from spaces import Choice, Parameter, is_number

if TYPE_CHECKING:
    from search.spec.study import StudyFile

# From this factor between two choices on, a range of them would be drawn by its exponent.
_LOG_FACTOR = 100
# A parameter as like as this to a known one is refused as misspelt; what is less like may be another, and nothing reads it.
_LIKE = 0.75


def check_ranges(space: Mapping[str, Any], text: StudyText) -> None:
    """Refuse parameters in the form of other tools, with the form to write."""
    for name, entry in space.items():
        if not isinstance(entry, dict) or (key := foreign.foreign_key(entry)) is None:
            continue
        if form := foreign.rewritten(name, entry):
            raise text.error(f"space.{name}.{key}", f"unknown key; {form}")
        if hint := closest(key, foreign.KEYS):
            raise text.error(
                f"space.{name}.{key}", f"unknown key{hint}; a parameter has {', '.join(sorted(foreign.KEYS))}"
            )


def check_objective(study: StudyFile, text: StudyText) -> None:
    """Refuse an objective on rows that a search never sees, and one whose rows have another name here."""
    objective = study.settings.study.objective
    prefix, _, rest = objective.partition("_")
    meant = f"did you mean 'val_{rest}'? It judges rows that were not trained on"
    if prefix in ("test", "holdout", "eval") and rest:
        raise text.error("study.objective", f"test rows are never used in a search; received {objective!r}; {meant}")
    if prefix in ("validation", "valid") and rest in _reported(study):
        raise text.error("study.objective", f"training reports no {objective!r}; {meant}")


def objective_hint(study: StudyFile) -> str:
    """Return "; did you mean ...?" for an objective that is like one that training reports."""
    names = _reported(study)
    return closest(study.settings.study.objective, [f"val_{name}" for name in names] + names)


def _reported(study: StudyFile) -> list[str]:
    """Return the names that training probably reports, without val_: those of lists of names are known."""
    metrics = study.settings.train.metrics
    named = ("accuracy", "mae") if metrics is None else metrics
    return ["loss", *(name for name in named if isinstance(name, str) and ":" not in name)]


def check_builder(study: StudyFile, text: StudyText, *, allow_unused: bool) -> None:
    """Refuse what a built-in builder doesn't take, and a builder of the user's that can't be called as it will be.

    A study that is stored goes on as it was begun, whatever would be refused today.
    """
    try:
        if study.builder is None:
            _check_arguments(study, text, allow_unused=allow_unused)
        else:
            _check_signature(study, text)
    except StudyFileError:
        if not _is_stored(study):
            raise


def _check_arguments(study: StudyFile, text: StudyText, *, allow_unused: bool) -> None:
    name = study.settings.model.build
    takes = BUILDERS[name]
    known = [*takes, *TRAIN_PARAMETERS]
    for key, value in study.settings.model.arguments.items():
        if key not in takes and allow_unused:
            continue
        if key not in takes:
            hint = hints.elsewhere_or_here(key, [*takes, "build"], "model")
            raise text.error(f"model.{key}", f"{name} has no {key}{hint}; it has {', '.join(takes)}")
        _check_fixed(key, takes[key], value, text)
    # What stands there already is not what a strange name was meant to be.
    free = [name for name in known if name not in study.space and name not in study.settings.model.arguments]
    for key, parameter in study.space.items():
        if key in takes:
            _check_argument(f"space.{key}", takes[key], key, extremes(parameter), text)
        elif (
            key not in TRAIN_PARAMETERS
            and not allow_unused
            and (hint := hints.home_of(key, except_for="model") or closest(key, free, _LIKE))
        ):
            used = f"; search.start uses {meant}" if (meant := _in_start(study, key, known)) else ""
            raise text.error(f"space.{key}", f"neither training nor {name} reads {key}{hint}{used}")


def _check_fixed(key: str, argument: Argument, value: Any, text: StudyText) -> None:
    is_choice = isinstance(value, list) and value and all(map(argument.fits, value))
    if (is_choice and not argument.fits(value)) or (isinstance(value, dict) and "low" in value):
        raise text.error(f"model.{key}", f"values to search go under [space]; received {shorten(value)}")
    _check_argument(f"model.{key}", argument, key, [value], text)


def _check_argument(key: str, argument: Argument, name: str, values: Iterable[Any], text: StudyText) -> None:
    for value in values:
        try:
            argument.check(name, value)
        except ValueError as error:
            raise text.error(key, str(error)) from None


def _in_start(study: StudyFile, key: str, known: list[str]) -> str:
    """Return the name by which a start gives a value to the misspelt parameter `key`, or nothing."""
    used = {name for start in study.settings.search.start for name in start if name not in study.space}
    return next((name for name in sorted(used) if hints.misnamed(name, {key: None}, known)), "")


def _check_signature(study: StudyFile, text: StudyText) -> None:
    builder = study.builder
    if builder is None or not (fault := signatures.misfit(builder.path, builder.function, ("config", "data"))):
        return
    if signatures.asks_for(builder.path, builder.function, "hp", "hps", "hyperparameters", "trial"):
        fault += (
            '; a builder of another tuner is rewritten so: the ranges go under [space], and hp.Int("units", ...) becomes '
            'config["units"]'
        )
    raise text.error("model.build", f"{fault}; write def {builder.function}(config, data)")


def _is_stored(study: StudyFile) -> bool:
    try:
        if not study.storage.exists():
            return False
        from search.storage import records

        return records.exists(study.storage, study.name)
    except (ManyfitError, OSError, ValueError, RuntimeError):
        return False


def blame(study: StudyFile, text: StudyText, name: str, key: str, message: str) -> StudyFileError:
    """Return the error of a parameter `name` that is used at `key` and that the space lacks.

    If a parameter of the space is that name misspelt, the error is of the line where that stands.
    """
    return _blame(study.settings, study.space, text, name, key, message)


def check_parents(settings: Settings, text: StudyText) -> None:
    """Refuse conditions on parameters that the space lacks, with the line where the mistake is."""
    for name, entry in settings.space.items():
        conditions = entry.get("when") if isinstance(entry, dict) else None
        for parent in conditions if isinstance(conditions, dict) else ():
            if parent not in settings.space:
                message = f"{parent!r} is not a parameter of the space; it has {', '.join(settings.space)}"
                raise _blame(settings, settings.space, text, parent, f"space.{name}.when", message)


def _blame(
    settings: Settings, space: Mapping[str, Any], text: StudyText, name: str, key: str, message: str
) -> StudyFileError:
    known = [*TRAIN_PARAMETERS, *BUILDERS.get(settings.model.build, {})]
    if wrong := hints.misnamed(name, space, known):
        where = "search.start" if key.startswith("search.start") else key
        return text.error(f"space.{wrong}", f"did you mean {name!r}? ({where} uses {name})")
    return text.error(key, f"{message}{closest(name, space)}")


def extremes(parameter: Parameter) -> Iterable[Any]:
    """Return the values of a parameter between which all others lie."""
    return parameter.choices if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def notes(study: StudyFile) -> list[str]:
    """Say what is allowed and probably not meant."""
    return [*_note_on_objective(study), *_notes_on_choices(study)]


def _note_on_objective(study: StudyFile) -> list[str]:
    objective = study.settings.study.objective
    if objective.startswith("val_") or objective == "learning_rate":
        return []
    judges = f"'val_{objective}' judges rows that were not trained on"
    return [f"objective {objective!r} is computed on the training rows; {judges}"]


def _notes_on_choices(study: StudyFile) -> list[str]:
    found = []
    for name, parameter in study.space.items():
        values = parameter.choices if isinstance(parameter, Choice) else ()
        if len(values) != 2 or not all(map(is_number, values)) or all(isinstance(value, int) for value in values):
            continue
        low, high = sorted(map(float, values))
        log = ", log = true" if low > 0 and high / low >= _LOG_FACTOR else ""
        found.append(
            f"{name} has two choices, {toml(values[0])} and {toml(values[1])}; "
            f"a range between them is {name} = {{ low = {toml(low)}, high = {toml(high)}{log} }}"
        )
    return found
