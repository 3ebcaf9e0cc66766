"""The identity of a study: the settings, data and code that may not change after its first start."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from search.errors import IdentityError
from search.spec import code_files
from search.spec.ready import Ready
from search.spec.settings import DataSection, as_begun
from search.spec.study import StudyFile

# Characters of a value in an error, and how many of them stand before the first difference in a longer one.
_SHOWN, _SHOWN_ALIKE = 100, 30

VERSIONED = ("manyfit", "keras", "optuna", "tensorflow", "jax", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Record:
    """What is stored with a study at its first start.

    Attributes:
        resolved: what "auto" settings resolved to (engine, backend, devices), and the versions of numeric libraries.
        identity: what may not change; plain JSON.
        note: a description for people, as Markdown, for optuna-dashboard.
        known: the attributes with the trials of an earlier study that it learns from.
    """

    resolved: dict[str, Any]
    identity: dict[str, Any]
    note: str
    known: Mapping[str, Any] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Return the installed versions of what a study's results may depend on."""
    installed = {}
    for name in VERSIONED:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def declared(file: StudyFile) -> dict[str, Any]:
    """Return the identity that the study file alone determines: all but the fingerprints of data and source."""
    settings = file.settings.model_dump(mode="json")
    study = settings["study"]
    return {
        "objective": study["objective"],
        "direction": file.direction,
        "epochs": file.epochs,
        "seed": study["seed"],
        # Studies that began before there were repeats or folds lack the key.
        **({"repeats": study["repeats"]} if study["repeats"] > 1 else {}),
        **({"folds": study["folds"]} if study["folds"] > 1 else {}),
        **({"confirms": study["confirms"]} if "confirms" in study else {}),
        "space": file.space.describe(),
        # Samplers draw in this order, so another order makes another study.
        "order": list(file.space),
        "data": _without_later_defaults(settings["data"]),
        "model": settings["model"],
        # Studies that began before several outputs were possible lack the key.
        "train": {key: value for key, value in settings["train"].items() if key != "loss_weights" or value},
        "search": settings["search"],
        # Studies that began before there were limits lack the key.
        **({"limits": settings["limits"]} if file.settings.limits.are_set else {}),
    }


# Settings of [data] that studies of earlier versions lack: the identity leaves them out at their defaults.
_LATER = ("columns", "encoding", "text", "lazy", "group", "order", "split", "window", "horizon", "stride")


def _without_later_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {key: DataSection.model_fields[key].default for key in _LATER}
    kept = {key: value for key, value in data.items() if key not in _LATER or value != defaults[key]}
    # "auto" means "none" for all sources that earlier versions knew, which stored "none".
    return {**kept, "scale": "none" if kept["scale"] == "auto" else kept["scale"]}


def resumed(file: StudyFile, stored: Mapping[str, Any]) -> StudyFile:
    """Return a study file as its study goes on: one that began before a key was there keeps what it did then."""
    sections = {}
    for name, before in as_begun({}, stored["seed"]).items():
        section: BaseModel = getattr(file.settings, name)
        kept = {key: before[key] for key in before.keys() - stored[name].keys() - section.model_fields_set}
        sections[name] = section.model_copy(update=kept)
    return replace(file, settings=file.settings.model_copy(update=sections))


def full(file: StudyFile, ready: Ready) -> dict[str, Any]:
    """Return the whole identity; `ready` comes from a worker that has loaded the data and the builder."""
    identity = declared(file)
    identity["data"] = {**identity["data"], "fingerprint": ready.fingerprint}
    if ready.targets:
        identity["data"]["targets"] = dict(ready.targets)
    if ready.kinds:
        identity["data"]["kinds"] = dict(ready.kinds)
    if batches := ready.data.get("train_batches"):
        identity["data"]["batches"] = batches
    identity["model"] = {**identity["model"], "source": ready.source}
    if ready.files:
        identity["model"]["files"] = dict(ready.files)
    return identity


def check_ready(
    file: StudyFile, stored: Mapping[str, Any], ready: Ready, *, may_mend_builder: bool = False
) -> dict[str, Any]:
    """Return the current identity; IdentityError if it differs from the one `stored` at the first start.

    `stored` has the files that trials have imported, too. With `may_mend_builder` the builder's source may differ.
    """
    now = full(file, ready)
    changed = [] if may_mend_builder else _changed_source(file, stored, ready)
    if not may_mend_builder and "files" in stored["model"]:
        # A file that the first start has left without a hash stays without one.
        now["model"]["files"] = {**ready.files, **stored["model"]["files"]}
    model = {key: value for key, value in now["model"].items() if key != "source"}
    check_unchanged(file.name, stored, {**now, "model": model}, source=changed)
    # `resumed` must recognise the study again.
    for name, before in as_begun({}, 0).items():
        for key in before.keys() - stored[name].keys():
            del now[name][key]
    return now


def source_hashes(file: StudyFile) -> dict[str, str]:
    """Return the hashes of what the code of a study's functions names, as far as no worker is needed."""
    given = {} if file.given is None else file.given.hashes
    return {**code_files.hashes(code_files.source_files(file.settings, file.base)), **given}


def changed_files(file: StudyFile, files: Mapping[str, str]) -> list[str]:
    """Return which of the user's files, name -> hash, have changed since they were hashed."""
    own = {name: digest for name, digest in files.items() if not name.startswith("manyfit:")}
    return code_files.changed_files(own, source_hashes(file), file.settings, file.base)


def has_same_files(file: StudyFile, stored: Mapping[str, Any]) -> bool:
    """Return whether the files of the user's functions are those of the first start, without importing them."""
    return not _changed_files(file, stored)


def check_files(file: StudyFile, stored: Mapping[str, Any]) -> None:
    """Raise IdentityError if the files of the user's functions differ from those of the first start. Needs no worker."""
    check_unchanged(file.name, stored, declared(file), source=_changed_files(file, stored))


def _changed_files(file: StudyFile, stored: Mapping[str, Any]) -> list[str]:
    if files := stored["model"].get("files"):
        return changed_files(file, files)
    # A study of manyfit 0.1.0 stores no list of files: its hash is comparable only if the builder is a single file.
    legacy_hash, stored_hash = code_files.legacy_hash(file.settings, file.base), stored["model"].get("source")
    return [] if stored_hash is None or legacy_hash in ("", stored_hash) else [file.settings.model.build]


def _changed_source(file: StudyFile, stored: Mapping[str, Any], ready: Ready) -> list[str]:
    """Return which files of the user's functions, or which built-in builder, have changed since the first start."""
    stored_model, build = stored["model"], file.settings.model.build
    if "files" in stored_model:
        return code_files.changed_files(stored_model["files"], ready.files, file.settings, file.base)
    # The hash of manyfit 0.1.0 lacks modules that a function imports when it is called.
    return [] if stored_model.get("source") in (ready.source, ready.legacy_source, None) else [build]


def check_unchanged(
    name: str, stored: Mapping[str, Any], now: Mapping[str, Any], *, source: Collection[str] = ()
) -> None:
    """Raise IdentityError with a readable difference if `now` is not the identity that the study started with.

    Fingerprints that `now` lacks, because no worker has reported them yet, are not compared, nor is the form of the targets
    for a study of a version that did not store it. `source` names the changed files of the builder.
    """
    stored = as_begun(stored, stored["seed"])
    lines = list(_differences("", stored, now))
    if source:
        lines.append(f"model.source: the builder's source has changed: {', '.join(source)}")
    if lines:
        shown = "".join(f"\n  {line}" for line in lines[:20])
        raise IdentityError(
            f"study {name!r} was started with something else:{shown}\n"
            "give the changed study another --name, or change the file back (trials, time and stop_after may change)"
        )


def _differences(path: str, stored: Any, now: Any) -> Iterator[str]:
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*stored, *now]):
            inner = f"{path}.{key}" if path else key
            if inner == "model.files" or (key in ("fingerprint", "source") and key not in now):
                continue  # `source` of check_unchanged covers files
            if inner in ("data.targets", "data.kinds", "data.batches") and not (key in stored and key in now):
                continue
            if key not in now:
                yield f"{inner}: was {_text(json.dumps(stored[key]))}, now absent"
            elif key not in stored:
                yield f"{inner}: was absent, now {_text(json.dumps(now[key]))}"
            else:
                yield from _differences(inner, stored[key], now[key])
    elif path == "order" and sorted(stored) != sorted(now):
        return  # the comparison of "space" reports added and removed parameters
    # Compare as JSON: in Python 1, 1.0 and True are equal, but they define different studies.
    elif json.dumps(stored) != json.dumps(now):
        if path in ("data.fingerprint", "model.source"):
            what = "the data are not the same" if path.startswith("data") else "the builder's source has changed"
            yield f"{path}: {what}"
        else:
            was, text = json.dumps(stored), json.dumps(now)
            # Long lists may begin alike.
            alike = next((at for at, (a, b) in enumerate(zip(was, text, strict=False)) if a != b), 0)
            start = max(0, alike - _SHOWN_ALIKE)
            yield f"{path}: was {_text(was, start)}, now {_text(text, start)}"


def _text(text: str, start: int = 0) -> str:
    """Cut a long text to a length that reads well, from the character `start` on."""
    if len(text) <= _SHOWN:
        return text
    text = f"...{text[start:]}" if start else text
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def note(file: StudyFile, resolved: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return a description of the study for people, as Markdown."""
    study, search = file.settings.study, file.settings.search
    fixed = {**file.settings.model.arguments, **file.settings.train.numbers}
    lines = [
        f"**{file.name}**: {file.direction} `{study.objective}`, {file.epochs} epochs, seed {study.seed}",
        "",
        *_trainings(file),
        (
            f"- data: `{file.settings.data.source}`, "
            + (
                f"{data['train_batches']} batches an epoch"
                if data.get("train_batches")
                else f"{data['train_rows']} rows"
            )
            + " for training, "
            f"{data['validation_rows']} for validation, {data['test_rows']} held out; "
            + (
                ", ".join(f"{name}: {target['task']}" for name, target in data.get("targets", {}).items())
                or data["task"]
            )
        ),
        f"- model: `{file.settings.model.build}`" + "".join(f", {key} = `{value}`" for key, value in fixed.items()),
        f"- search: {search.sampler.name}, {search.pruner.name}"
        + (f", early stopping after {search.early_stopping.patience} epochs" if search.early_stopping else ""),
        *_limits(file),
        f"- trained by: {resolved['engine']} on {resolved['backend']}, {', '.join(map(str, resolved['devices']))}",
        "- versions: " + ", ".join(f"{key} {value}" for key, value in resolved["versions"].items()),
        "",
        "| parameter | searched |",
        "| --- | --- |",
    ]
    lines += [f"| {name} | `{json.dumps(entry)}` |" for name, entry in file.space.describe().items()]
    return "\n".join(lines)


def _trainings(file: StudyFile) -> list[str]:
    study = file.settings.study
    several = [f"- each trial: the mean of {study.replicas} {study.replica}s"] if study.replicas > 1 else []
    confirmed = ", ".join(map(str, study.confirms))
    return [*several, *([f"- fresh trainings of the best trials of a search: {confirmed}"] if confirmed else [])]


def _limits(file: StudyFile) -> list[str]:
    limits = file.settings.limits.model_dump(exclude_none=True)
    return ["- limits: " + ", ".join(f"{name} {value}" for name, value in limits.items())] if limits else []
