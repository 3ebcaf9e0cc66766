"""What makes a study this study: what may not change between its first command and its last, and how it reads."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from search.errors import IdentityError
from search.spec import sources
from search.spec.ready import Ready
from search.spec.study import StudyFile

VERSIONED = ("manyfit", "keras", "optuna", "tensorflow", "jax", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Record:
    """What is stored with a study at its first start.

    Attributes:
        resolved: what "auto" came to (engine, backend, devices) and the versions of what computes.
        identity: what may not change; plain JSON.
        note: the same for people, as Markdown, for optuna-dashboard.
    """

    resolved: dict[str, Any]
    identity: dict[str, Any]
    note: str


def versions() -> dict[str, str]:
    """Return the installed versions of what a study's results may depend on."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def declared(file: StudyFile) -> dict[str, Any]:
    """Return what identifies a study as far as its file tells: all but the fingerprints of data and source."""
    settings = file.settings.model_dump(mode="json")
    study = settings["study"]
    return {
        "objective": study["objective"],
        "direction": file.direction,
        "epochs": file.epochs,
        "seed": study["seed"],
        "space": file.space.describe(),
        # Samplers draw in this order, so that another order is another study.
        "order": list(file.space),
        "data": settings["data"],
        "model": settings["model"],
        "train": settings["train"],
        "search": settings["search"],
    }


def full(file: StudyFile, ready: Ready) -> dict[str, Any]:
    """Return all that identifies a study; `ready` comes from a worker that has its data and its builder."""
    identity = declared(file)
    identity["data"] = {**identity["data"], "fingerprint": ready.fingerprint}
    identity["model"] = {**identity["model"], "source": ready.source}
    if ready.files:
        identity["model"]["files"] = dict(ready.files)
    return identity


def check_ready(
    file: StudyFile, stored: Mapping[str, Any], ready: Ready, *, may_mend_builder: bool = False
) -> dict[str, Any]:
    """Raise IdentityError if what a worker has is not what the study was started with; return its identity now.

    With `may_mend_builder` the builder's source may be another.
    """
    now = full(file, ready)
    changed = [] if may_mend_builder else _changed_source(file, stored, ready)
    model = {key: value for key, value in now["model"].items() if key != "source"}
    check_unchanged(file.name, stored, {**now, "model": model}, source=changed)
    return now


def has_same_files(file: StudyFile, stored: Mapping[str, Any]) -> bool:
    """Tell whether the files of the user's functions are those of the study's start, as far as reading them tells."""
    return not _changed_files(file, stored)


def check_files(file: StudyFile, stored: Mapping[str, Any]) -> None:
    """Raise IdentityError if the files of the user's functions are not those of the start. Needs no worker."""
    check_unchanged(file.name, stored, declared(file), source=_changed_files(file, stored))


def _changed_files(file: StudyFile, stored: Mapping[str, Any]) -> list[str]:
    files, build = stored["model"].get("files"), file.settings.model.build
    if files:
        others = {name: digest for name, digest in files.items() if name != f"manyfit:{build}"}
        return sources.changed(others, sources.hashes(sources.written(file.settings, file.base)), file.base)
    # A study that was begun by manyfit 0.1.0 keeps no list of files: it is compared if its builder is a single file.
    before, was = sources.hash_before(file.settings, file.base), stored["model"].get("source")
    return [] if was is None or before in ("", was) else [build]


def _changed_source(file: StudyFile, stored: Mapping[str, Any], ready: Ready) -> list[str]:
    """Return the names of the files of the user's functions, or of our builder, that have changed since the start."""
    was, build = stored["model"], file.settings.model.build
    if was.get("source") in (ready.source, None):
        return []
    if "files" in was:
        return sources.changed(was["files"], ready.files, file.base)
    # By the rule of manyfit 0.1.0, which left out what a function imports when it is called.
    return [] if was["source"] == ready.source_before else [build]


def check_unchanged(
    name: str, stored: Mapping[str, Any], now: Mapping[str, Any], *, source: Collection[str] = ()
) -> None:
    """Raise IdentityError with a readable difference if `now` is not what the study was started with.

    Keys that `now` lacks altogether (fingerprints, before a worker has told them) are not compared. `source` names the files
    of the builder that have changed.
    """
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
                continue  # files are compared by themselves
            if key not in now:
                yield f"{inner}: was {_text(stored[key])}, now absent"
            elif key not in stored:
                yield f"{inner}: was absent, now {_text(now[key])}"
            else:
                yield from _differences(inner, stored[key], now[key])
    # As JSON: whole numbers and reals (1 and 1.0, a range of another kind) and truth values are not the same.
    elif path == "order" and sorted(stored) != sorted(now):
        return  # parameters that came or went are told as such
    elif json.dumps(stored) != json.dumps(now):
        if path in ("data.fingerprint", "model.source"):
            what = "the data are not the same" if path.startswith("data") else "the builder's source has changed"
            yield f"{path}: {what}"
        else:
            yield f"{path}: was {_text(stored)}, now {_text(now)}"


def _text(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def note(file: StudyFile, resolved: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Describe a study for people, as Markdown."""
    study, search = file.settings.study, file.settings.search
    fixed = {**file.settings.model.arguments, **file.settings.train.numbers}
    lines = [
        f"**{file.name}**: {file.direction} `{study.objective}`, {file.epochs} epochs, seed {study.seed}",
        "",
        (
            f"- data: `{file.settings.data.source}`, {data['train_rows']} rows for training, "
            f"{data['validation_rows']} for validation, {data['test_rows']} held out; {data['task']}"
        ),
        f"- model: `{file.settings.model.build}`" + "".join(f", {key} = `{value}`" for key, value in fixed.items()),
        f"- search: {search.sampler.name}, {search.pruner.name}"
        + (f", early stopping after {search.early_stopping.patience} epochs" if search.early_stopping else ""),
        f"- trained by: {resolved['engine']} on {resolved['backend']}, {', '.join(map(str, resolved['devices']))}",
        "- versions: " + ", ".join(f"{key} {value}" for key, value in resolved["versions"].items()),
        "",
        "| parameter | searched |",
        "| --- | --- |",
    ]
    lines += [f"| {name} | `{json.dumps(entry)}` |" for name, entry in file.space.describe().items()]
    return "\n".join(lines)
