"""What a study file says that its builder, its objective or its ranges can't be, and what is allowed and probably not meant.

Nothing here imports keras, and nothing here runs a user's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from models.arguments import BUILDERS, Argument
from search import foreign, hints, signatures, synonyms
from search.errors import ManyfitError, StudyFileError
from search.studytext import StudyText
from search.tomltext import value as toml
from search.vocabulary import TRAIN_PARAMETERS, closest
from spaces import Choice, Parameter, is_number

if TYPE_CHECKING:
    from search.studyfile import StudyFile

# From this factor between two choices on, a range of them would be drawn by its exponent.
_LOG_FACTOR = 100


def check_ranges(space: Mapping[str, Any], text: StudyText) -> None:
    """Refuse parameters in the form of other tools, with the form to write."""
    for name, entry in space.items():
        if not isinstance(entry, dict) or (key := foreign.foreign_key(entry)) is None:
            continue
        if form := foreign.rewritten(name, entry):
            raise text.error(f"space.{name}.{key}", f"unknown key; {form}")
        if hint := closest(key, foreign.KEYS):
            raise text.error(f"space.{name}.{key}", f"unknown key{hint}; a parameter has {', '.join(sorted(foreign.KEYS))}")


def check_objective(study: StudyFile, text: StudyText) -> None:
    """Refuse an objective on rows that a search never sees."""
    objective = study.settings.study.objective
    prefix, _, rest = objective.partition("_")
    if prefix in ("test", "holdout", "eval") and rest:
        raise text.error(
            "study.objective",
            f"test rows are never used in a search; received {objective!r}; "
            f"did you mean 'val_{rest}'? It judges rows that were not trained on",
        )


def check_builder(study: StudyFile, text: StudyText) -> None:
    """Refuse what a built-in builder doesn't take, and a builder of the user's that can't be called as it will be.

    A study that is stored goes on as it was begun, whatever would be refused today.
    """
    try:
        if study.builder is None:
            _check_arguments(study, text)
        else:
            _check_signature(study, text)
    except StudyFileError:
        if not _is_stored(study):
            raise


def _check_arguments(study: StudyFile, text: StudyText) -> None:
    name = study.settings.model.build
    takes = BUILDERS[name]
    known = [*takes, *TRAIN_PARAMETERS]
    for key, value in study.settings.model.arguments.items():
        if key not in takes:
            raise text.error(f"model.{key}", f"{name} has no {key}{_hint(key, takes)}; it has {', '.join(takes)}")
        _check_argument(f"model.{key}", takes[key], key, [value], text)
    for key, parameter in study.space.items():
        if key in takes:
            _check_argument(f"space.{key}", takes[key], key, extremes(parameter), text)
        elif key not in TRAIN_PARAMETERS and (hint := closest(key, known)):
            used = f"; search.start uses {meant}" if (meant := _in_start(study, key, known)) else ""
            raise text.error(f"space.{key}", f"neither training nor {name} reads {key}{hint}{used}")


def _hint(key: str, takes: Mapping[str, Argument]) -> str:
    if synonyms.ours(key, takes):
        return closest(key, takes)
    return hints.home_of(key) or closest(key, takes) or hints.elsewhere(key, "model")


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
        from search import records

        return records.exists(study.storage, study.name)
    except (ManyfitError, OSError, ValueError):
        return False


def blame(study: StudyFile, text: StudyText, name: str, key: str, message: str) -> StudyFileError:
    """Return the error of a parameter `name` that is used at `key` and that the space lacks.

    If a parameter of the space is that name misspelt, the error is of the line where that stands.
    """
    known = [*TRAIN_PARAMETERS, *(BUILDERS.get(study.settings.model.build, {}) if study.builder is None else ())]
    if wrong := hints.misnamed(name, study.space, known):
        return text.error(
            f"space.{wrong}", f"no parameter is read by that name; did you mean {name!r}? ({key} uses it)"
        )
    return text.error(key, f"{message}{closest(name, study.space)}")


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
