"""Keras's callbacks that a study may name in train.callbacks, known without importing Keras.

`tests/engines/test_vocabulary.py` compares the options with the installed Keras.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from search.errors import OptionError
from search.spec import synonyms
from search.spec.vocabulary import Rule, closest, direction_of
from spaces import is_number, shown

Entry: TypeAlias = str | Mapping[str, Any]
"""An entry of train.callbacks: "file.py:function", a name, or a table of a name and options."""

_FLAG = Rule(bool)
_MODE = Rule(str, choices=("auto", "min", "max"))

# The options that may be set, without `monitor` and `separator`, which are any text.
_RULES: dict[str, dict[str, Rule]] = {
    "ReduceLROnPlateau": {
        "factor": Rule(float, 0, 1),
        "patience": Rule(int, low=0),
        "mode": _MODE,
        "min_delta": Rule(float, low=0),
        "cooldown": Rule(int, low=0),
        "min_lr": Rule(float, low=0),
    },
    "CSVLogger": {},
    "ModelCheckpoint": {
        "save_best_only": _FLAG,
        "save_weights_only": _FLAG,
        "mode": _MODE,
        "save_freq": Rule(int, low=1),
        "initial_value_threshold": Rule(float),
    },
    "TensorBoard": {
        "histogram_freq": Rule(int, low=0),
        "write_graph": _FLAG,
        "write_images": _FLAG,
        "write_steps_per_second": _FLAG,
        "update_freq": Rule(int, low=1),
    },
    "TerminateOnNaN": {},
    "SwapEMAWeights": {"swap_on_epoch": _FLAG},
}
_TEXTS = {"ReduceLROnPlateau": ("monitor",), "ModelCheckpoint": ("monitor",), "CSVLogger": ("separator",)}
# Texts that an option takes beside numbers.
_WORDS = {"save_freq": ("epoch",), "update_freq": ("epoch", "batch")}

OPTIONS: dict[str, tuple[str, ...]] = {name: (*_TEXTS.get(name, ()), *rules) for name, rules in _RULES.items()}
"""The callbacks that a study may name -> the options that it may set."""

FILES = {"CSVLogger": ".csv", "ModelCheckpoint": ".keras", "TensorBoard": ""}
"""The callbacks that write files -> the suffix of a training's file; "" for a folder."""

STATE: dict[str, tuple[str, ...]] = {
    "ReduceLROnPlateau": ("best", "wait", "cooldown_counter"),
    "CSVLogger": (),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    "TerminateOnNaN": (),
}
"""The callbacks that resume from a checkpoint -> their attributes that training changes."""

_OWN = 'name a function of yours: callbacks = ["my_model.py:make"], where make(config) returns'
REFUSED: dict[str, str] = {
    "EarlyStopping": (
        "write early_stopping = { patience = 5 } under [search] instead: it stops on the objective, as Keras's callback "
        "does, and the weights of the best epoch are kept"
    ),
    "LearningRateScheduler": (
        'it calls a function: set schedule = "cosine", "linear" or "exponential" under [train], or '
        f"{_OWN} keras.callbacks.LearningRateScheduler(my_schedule)"
    ),
    "LambdaCallback": f"it calls functions: {_OWN} keras.callbacks.LambdaCallback(...)",
    "BackupAndRestore": "manyfit writes checkpoints itself, and the same command resumes a study: remove it",
    "OrbaxCheckpoint": (
        "manyfit writes checkpoints itself, and the same command resumes a study: remove it; for a file of each trial's "
        'model name "ModelCheckpoint"'
    ),
    "RemoteMonitor": (
        "manyfit sends nothing to other machines by itself: `manyfit dashboard` shows the study; else "
        f"{_OWN} keras.callbacks.RemoteMonitor(...)"
    ),
    "ProgbarLogger": "`manyfit run` prints the progress itself: remove it",
    "History": "manyfit stores all metrics of all epochs itself: remove it; `manyfit show` and `export` read them",
    "Callback": f"it is the base class of callbacks: {_OWN} one",
    "CallbackList": "train.callbacks is the list: write its entries there",
}
"""Keras's callbacks that a study can't name -> what to write instead."""

_REPORTS = "manyfit reports every epoch to its sampler and pruner itself: remove it"
_TRACKERS = f"manyfit stores all metrics itself; to send them elsewhere, {_OWN} the callback"
_OF_OTHER_TOOLS = {
    "KerasPruningCallback": _REPORTS,
    "TFKerasPruningCallback": _REPORTS,
    "TuneReportCallback": _REPORTS,
    "TuneReportCheckpointCallback": _REPORTS,
    "ReportCheckpointCallback": _REPORTS,
    "WandbCallback": _TRACKERS,
    "WandbMetricsLogger": _TRACKERS,
    "WandbModelCheckpoint": _TRACKERS,
    "MlflowCallback": _TRACKERS,
    "NeptuneCallback": _TRACKERS,
    "TqdmCallback": REFUSED["ProgbarLogger"],
}
_OTHER_NAMES = {
    "reducelr": "ReduceLROnPlateau",
    "lrreducer": "ReduceLROnPlateau",
    "plateau": "ReduceLROnPlateau",
    "csv": "CSVLogger",
    "checkpoint": "ModelCheckpoint",
    "tb": "TensorBoard",
    "nan": "TerminateOnNaN",
    "swa": "SwapEMAWeights",
    "ema": "SwapEMAWeights",
    "stopearly": "EarlyStopping",
    "lrscheduler": "LearningRateScheduler",
}
_REFUSED_OPTIONS = {
    "filename": "manyfit names the file: NAME.files/callbacks/CSVLogger/trial-3.csv",
    "append": "manyfit writes a file for each training, and continues it when the trial resumes",
    "filepath": "manyfit names the file: NAME.files/callbacks/ModelCheckpoint/trial-3.keras",
    "log_dir": "manyfit names the folder: NAME.files/callbacks/TensorBoard/trial-3",
    "verbose": "what callbacks print goes to the study's log only",
    "profile_batch": "for a profile, train one config by a script of yours",
    "embeddings_freq": f"for a projector of embeddings, {_OWN} keras.callbacks.TensorBoard(...)",
    "embeddings_metadata": f"for a projector of embeddings, {_OWN} keras.callbacks.TensorBoard(...)",
    "raise_error": "a loss that is not finite ends the trial as diverged",
}


def name_of(entry: Entry) -> str:
    """Return the name of an entry; for the user's own code, "file.py:function"."""
    return entry if isinstance(entry, str) else str(entry["name"])


def options_of(entry: Entry) -> dict[str, Any]:
    """Return the options of an entry."""
    return {} if isinstance(entry, str) else {key: value for key, value in entry.items() if key != "name"}


def is_user_code(entry: Entry) -> bool:
    """Return whether an entry names the user's own code."""
    return ":" in name_of(entry)


def have_user_code(entries: Iterable[Entry]) -> bool:
    """Return whether any entry names the user's own code."""
    return any(map(is_user_code, entries))


def swap_averages(entries: Iterable[Entry]) -> bool:
    """Return whether a callback may put the averages of `use_ema` into the weights."""
    return any(is_user_code(entry) or name_of(entry) == "SwapEMAWeights" for entry in entries)


def can_resume(entries: Iterable[Entry]) -> bool:
    """Return whether trials with these callbacks resume from checkpoints; otherwise they restart from their beginning."""
    return all(name_of(entry) in STATE for entry in entries)


def check(entry: Entry) -> None:
    """Raise OptionError unless Keras has the named callback, and the options are valid for it."""
    name, options = name_of(entry), options_of(entry)
    if is_user_code(entry):
        if options:
            raise OptionError(f"a function of yours gets the config, no options; received {', '.join(options)}")
        return
    if name not in OPTIONS:
        raise OptionError(_unknown(name))
    for option, value in options.items():
        try:
            _check_option(name, option, value)
        except ValueError as error:
            raise OptionError(str(error), option) from None


def _unknown(written: str) -> str:
    name = written.rpartition(".")[2]  # keras.callbacks.CSVLogger
    if name in OPTIONS:
        return f"callbacks of Keras go by their class's name alone; received {written!r}; write {name!r}"
    known = {synonyms.plain(other): why for other, why in _OF_OTHER_TOOLS.items()}
    plain = synonyms.plain(name)
    if why := REFUSED.get(name) or known.get(plain):
        return f"{name} can't be named here: {why}"
    by_plain = {synonyms.plain(other): other for other in (*OPTIONS, *REFUSED)}
    meant = by_plain.get(plain) or _OTHER_NAMES.get(plain)
    if meant in REFUSED:
        return f"{meant} can't be named here: {REFUSED[meant]}; received {written!r}"
    hint = f"; did you mean {meant!r}?" if meant else closest(name, OPTIONS)
    return (
        f'must be a function of yours, such as "my_model.py:make", or one of Keras\'s: {", ".join(OPTIONS)}; '
        f"received {written!r}{hint}"
    )


def _check_option(name: str, option: str, value: Any) -> None:
    if option not in OPTIONS[name]:
        reason = _REFUSED_OPTIONS.get(option, "")
        hint = f"; {reason}: remove it" if reason else closest(option, OPTIONS[name])
        there = f"; it has {', '.join(OPTIONS[name])}" if OPTIONS[name] else "; it has none"
        raise ValueError(f"{name} has no option {option!r} here{hint}{'' if reason else there}")
    if option in _TEXTS.get(name, ()):
        if not isinstance(value, str) or not value or (option == "separator" and (len(value) != 1 or value in '"\r\n')):
            what = "one character" if option == "separator" else 'the name of a metric, such as "val_loss"'
            raise ValueError(f"{option} must be {what}; received {shown(value)}")
        return
    words = _WORDS.get(option, ())
    if isinstance(value, str) and words:
        if value not in words:
            raise ValueError(
                f"{option} must be {' or '.join(map(repr, words))}, or a number of batches; received {shown(value)}"
            )
        return
    if option == "factor" and is_number(value) and not 0 < value < 1:
        raise ValueError(f"factor must be above 0 and below 1; received {shown(value)}")
    _RULES[name][option].check(option, value)


def with_mode(entry: Entry, objective: str, direction: str) -> dict[str, Any]:
    """Return the options of an entry, with the direction of what it monitors in `mode`.

    `direction` is that of the study's objective. OptionError if the name of another metric does not imply its direction.
    """
    options = options_of(entry)
    if "monitor" not in OPTIONS[name_of(entry)] or options.get("mode", "auto") != "auto":
        return options
    monitor = options.get("monitor", "val_loss")
    wanted = direction if monitor == objective else direction_of(monitor)
    if wanted is None:
        raise OptionError(
            f'whether {monitor!r} is better high or low can\'t be told by its name; add mode = "max" or "min"',
            "monitor",
        )
    return {**options, "mode": "max" if wanted == "maximize" else "min"}


def monitored(entries: Iterable[Entry]) -> Iterator[tuple[int, str]]:
    """Yield the index of each entry that monitors a metric, and the metric's name."""
    for index, entry in enumerate(entries):
        if "monitor" in OPTIONS.get(name_of(entry), ()):
            yield index, options_of(entry).get("monitor", "val_loss")
