"""Checks of a study's ranges, objective and builder, and remarks on settings that are probably not meant.

Nothing here imports keras, and nothing here runs the user's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from models.arguments import BUILDERS, Argument
from search.errors import ManyfitError, StudyFileError
from search.reading import foreign, hints, signatures
from search.reading.studytext import StudyText, shorten
from search.reading.tomltext import value as toml
from search.spec import synonyms
from search.spec.settings import Settings
from search.spec.vocabulary import TRAIN_PARAMETERS, closest, direction_of
from spaces import Choice, Parameter, is_number, shown

if TYPE_CHECKING:
    from search.spec.study import StudyFile

# If two choices differ by at least this factor, the suggested range is logarithmic.
_LOG_FACTOR = 100
# An unknown parameter at least this similar to a known one is refused as misspelt; others are left to `unused`.
_MIN_SIMILARITY = 0.75


def check_ranges(settings: Settings, text: StudyText) -> None:
    """Refuse parameters in the form of other tools; the error shows the form to write."""
    space, arguments = settings.space, BUILDERS.get(settings.model.build)

    def known(name: str) -> str:
        # A builder of the user's may read any name.
        if arguments is None or name in arguments or name in TRAIN_PARAMETERS:
            return name
        return synonyms.known_name(name, [*TRAIN_PARAMETERS, *arguments]) or name

    for name, entry in space.items():
        if isinstance(entry, str) and name != "use" and (suggestion := foreign.suggest_for_text(known(name), entry)):
            raise text.error(
                f"space.{name}", f"a parameter is a list or a table; received {shown(entry)}; {suggestion}"
            )
        if not isinstance(entry, dict) or (key := foreign.first_unknown_key(entry)) is None:
            continue
        if suggestion := foreign.suggest(known(name), entry):
            raise text.error(f"space.{name}.{key}", f"unknown key; {suggestion}")
        for other in entry:
            if other not in foreign.KEYS and (why := synonyms.absence_reason(other)):
                raise text.error(f"space.{name}.{other}", f"unknown key; {why}")
        if hint := closest(key, foreign.KEYS):
            raise text.error(
                f"space.{name}.{key}", f"unknown key{hint}; a parameter has {', '.join(sorted(foreign.KEYS))}"
            )


def check_objective(study: StudyFile, text: StudyText) -> None:
    """Refuse an objective on test rows, which a search never uses, or with a prefix other than val_."""
    objective = study.settings.study.objective
    prefix, _, rest = objective.partition("_")
    meant = f"did you mean 'val_{rest}'? It judges rows that were not trained on"
    if prefix in ("test", "holdout", "eval") and rest:
        raise text.error("study.objective", f"test rows are never used in a search; received {objective!r}; {meant}")
    if prefix in ("validation", "valid") and rest in _reported(study):
        raise text.error("study.objective", f"training reports no {objective!r}; {meant}")


def objective_hint(study: StudyFile) -> str:
    """Return "; did you mean ...?" for an objective that resembles a reported one; "" for any other."""
    names = _reported(study)
    return closest(study.settings.study.objective, [f"val_{name}" for name in names] + names)


def _reported(study: StudyFile) -> list[str]:
    """Return the names that training probably reports, without val_. Only metrics given by name are known."""
    metrics = study.settings.train.metrics_by_output
    names = ["loss"]
    for output, entries in ({"": ("accuracy", "mae")} if metrics is None else metrics).items():
        prefix = f"{output}_" if output else ""
        names += [f"{prefix}loss"] if output else []
        names += [f"{prefix}{name}" for name in entries if isinstance(name, str) and ":" not in name]
    return names


def check_builder(study: StudyFile, text: StudyText, *, allow_unused: bool) -> None:
    """Refuse arguments that a built-in builder lacks, and a user's builder that can't be called with (config, data).

    A stored study is never refused: it resumes as it began.
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
    accepted = BUILDERS[name]
    known = [*accepted, *TRAIN_PARAMETERS]
    for key, value in study.settings.model.arguments.items():
        if key not in accepted and allow_unused:
            continue
        if key not in accepted:
            hint = hints.key_hint(key, [*accepted, "build"], "model")
            raise text.error(f"model.{key}", f"{name} has no {key}{hint}; it has {', '.join(accepted)}")
        _check_fixed(key, accepted[key], value, text)
    # A misspelt name was not meant to be one that the file already uses.
    available = [name for name in known if name not in study.space and name not in study.settings.model.arguments]
    for key, parameter in study.space.items():
        if key in accepted:
            _check_argument(f"space.{key}", accepted[key], key, extremes(parameter), text)
        elif (
            key not in TRAIN_PARAMETERS
            and not allow_unused
            and (hint := hints.section_hint(key, except_for="model") or closest(key, available, _MIN_SIMILARITY))
        ):
            start_hint = f"; search.start uses {meant}" if (meant := _name_in_start(study, key, known)) else ""
            raise text.error(f"space.{key}", f"neither training nor {name} reads {key}{hint}{start_hint}")


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


def _name_in_start(study: StudyFile, key: str, known: list[str]) -> str:
    """Return the name that search.start uses for the misspelt parameter `key`; "" if it uses none."""
    names = {name for start in study.settings.search.start for name in start if name not in study.space}
    return next((name for name in sorted(names) if hints.misspelling_of(name, {key: None}, known)), "")


def _check_signature(study: StudyFile, text: StudyText) -> None:
    builder = study.builder
    if builder is None or signatures.form_of(builder.path, builder.function) == "hp":
        return
    if not (fault := signatures.call_error(builder.path, builder.function, ("config", "data"))):
        return
    if signatures.first_argument_is(builder.path, builder.function, "trial"):
        fault += "; the ranges go under [space]"
    elif signatures.first_argument_is(builder.path, builder.function, "hp", "hps", "hyperparameters"):
        fault += "; a builder in KerasTuner's form has one argument, build(hp), and gives all others a default"
    raise text.error("model.build", f"{fault}; write def {builder.function}(config, data)")


def _is_stored(study: StudyFile) -> bool:
    try:
        if not study.storage.exists():
            return False
        from search.storage import records

        return records.exists(study.storage, study.name)
    except (ManyfitError, OSError, ValueError, RuntimeError):
        return False


def missing_parameter_error(study: StudyFile, text: StudyText, name: str, key: str, message: str) -> StudyFileError:
    """Return the error for a parameter `name` that `key` uses and the space lacks.

    If the space has a misspelling of `name`, the error gives the line of that misspelling.
    """
    return _missing_parameter_error(study.settings, study.space, text, name, key, message)


def check_parents(settings: Settings, text: StudyText) -> None:
    """Refuse conditions on parameters that the space lacks; the error gives the line of the mistake."""
    for name, entry in settings.space.items():
        conditions = entry.get("when") if isinstance(entry, dict) else None
        for parent in conditions if isinstance(conditions, dict) else ():
            if parent not in settings.space:
                message = f"{parent!r} is not a parameter of the space; it has {', '.join(settings.space)}"
                raise _missing_parameter_error(settings, settings.space, text, parent, f"space.{name}.when", message)


def _missing_parameter_error(
    settings: Settings, space: Mapping[str, Any], text: StudyText, name: str, key: str, message: str
) -> StudyFileError:
    known = [*TRAIN_PARAMETERS, *BUILDERS.get(settings.model.build, {})]
    if misspelt := hints.misspelling_of(name, space, known):
        where = "search.start" if key.startswith("search.start") else key
        return text.error(f"space.{misspelt}", f"did you mean {name!r}? ({where} uses {name})")
    return text.error(key, f"{message}{closest(name, space)}")


def extremes(parameter: Parameter) -> Iterable[Any]:
    """Return both ends of a range, or all choices."""
    return parameter.choices if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def notes(study: StudyFile) -> list[str]:
    """Return remarks on settings that are allowed and probably not meant."""
    return [*_note_on_objective(study), *_note_on_direction(study), *_note_on_seed(study), *_notes_on_choices(study)]


def _note_on_objective(study: StudyFile) -> list[str]:
    objective = study.settings.study.objective
    if objective.startswith("val_") or objective == "learning_rate":
        return []
    judges = f"'val_{objective}' judges rows that were not trained on"
    return [f"objective {objective!r} is computed on the training rows; {judges}"]


def _note_on_direction(study: StudyFile) -> list[str]:
    objective, direction = study.settings.study.objective, study.settings.study.direction
    usual = direction_of(objective)
    if direction is None or usual in (None, direction):
        return []
    extreme = "lowest" if direction == "minimize" else "highest"
    return [
        f"direction = {toml(direction)} searches the {extreme} {objective!r}, usually the worst; remove it for the best"
    ]


def _note_on_seed(study: StudyFile) -> list[str]:
    sampler = study.settings.search.sampler
    if sampler.name != "qmc" or sampler.options.get("scramble") is not False:
        return []
    fixed = "qmc with scramble = false follows one fixed sequence: another seed draws nearly the same configs"
    return [f"{fixed}; it changes weights and shuffles only"]


def check_optimizers(study: StudyFile, text: StudyText) -> None:
    """Refuse an optimizer that the space lists twice in different spellings. A stored study resumes as it began."""
    parameter = study.space.get("optimizer")
    seen: dict[str, str] = {}
    for name in parameter.choices if isinstance(parameter, Choice) else ():
        first = seen.setdefault(str(name).lower(), name)
        if first != name and not _is_stored(study):
            raise text.error(
                "space.optimizer",
                f"each optimizer may stand once, in capitals or not; received {shown(first)} and {shown(name)}; drop one",
            )


def spelled_as_listed(settings: Settings) -> Settings:
    """Return the settings with the optimizers of conditions and start configs in the spelling of the space's list.

    The list keeps its spelling: the space and the stored trials of a study have it.
    """
    space = settings.space
    entry = space.get("optimizer")
    listed = entry.get("choices") if isinstance(entry, dict) else entry
    if not isinstance(listed, list):
        return settings
    names = [name for name in listed if isinstance(name, str)]
    by_lower = {name.lower(): name for name in reversed(names)}

    def spelled(given: Any) -> Any:
        if isinstance(given, list):
            return list(dict.fromkeys(map(spelled, given))) if all(isinstance(name, str) for name in given) else given
        return by_lower.get(given.lower(), given) if isinstance(given, str) and given not in names else given

    def rewritten(table: Any) -> Any:
        return (
            {**table, "optimizer": spelled(table["optimizer"])}
            if isinstance(table, dict) and "optimizer" in table
            else table
        )

    changed = {
        name: {**each, "when": rewritten(each["when"])} if isinstance(each, dict) and "when" in each else each
        for name, each in space.items()
    }
    start = tuple(map(rewritten, settings.search.start))
    return settings.model_copy(update={"space": changed, "search": settings.search.model_copy(update={"start": start})})


def _notes_on_choices(study: StudyFile) -> list[str]:
    lines: list[str] = []
    if study.settings.search.sampler.name == "grid":
        return lines  # a grid has no ranges without `points`
    for name, parameter in study.space.items():
        values = parameter.choices if isinstance(parameter, Choice) else ()
        if len(values) != 2 or not all(map(is_number, values)) or all(isinstance(value, int) for value in values):
            continue
        low, high = sorted(map(float, values))
        log = ", log = true" if low > 0 and high / low >= _LOG_FACTOR else ""
        lines.append(
            f"{name} has two choices, {toml(values[0])} and {toml(values[1])}; "
            f"a range between them is {name} = {{ low = {toml(low)}, high = {toml(high)}{log} }}"
        )
    return lines
