"""Trains models of the gallery in one process and prints, as JSON, what each came to.

`python tests/gallery/run.py GROUP GROUP/NAME ...`, with KERAS_BACKEND set. Every model is trained in three ways: in lanes, by
the fit engine, and by plain Keras as the documentation of `best.json` describes it.
"""

from __future__ import annotations

import gc
import importlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import keras
import numpy as np
import rows
from entries import GALLERY, Entry
from support import toml

from search.engines import failures
from search.errors import ManyfitError
from search.reading import studyfile
from search.sessions.startup import worker_spec
from search.spec.resolved import Resolved
from search.trials.events import Assignment, EpochEnd, Failed, Member, Verdict
from search.workers import worker

HERE = Path(__file__).resolve().parent
SEED = 11
Curve = list[dict[str, float]]


@dataclass
class Session:
    """A worker's engine in this process, ready to train the members of one entry."""

    engine: Any
    ready: Any
    fixed: dict[str, Any]
    trainer: Any


def study_text(entry: Entry, engine: str) -> str:
    """Write the study file of an entry."""
    task = f'task = "{entry.task}"' if entry.task else ""
    train = "\n".join(f"{name} = {toml(value)}" for name, value in entry.train.items())
    space = "\n".join(f"{name} = {toml(value)}" for name, value in entry.space.items())
    return f"""
[study]
objective = "val_loss"
epochs = {entry.epochs}
[data]
source = "{HERE / "rows.py"}:{entry.rows}"
test = 0.0
{task}
[model]
build = "{entry.reference}"
[train]
batch_size = {entry.batch_size}
{train}
[space]
{space}
[search]
sampler = "random"
[run]
engine = "{engine}"
backend = "{keras.backend.backend()}"
{"lanes = 2" if engine == "lanes" else ""}
"""


def session(entry: Entry, engine: str, folder: Path) -> Session:
    """Start what a worker would for this study; ManyfitError if it refuses."""
    path = folder / "gallery.toml"
    path.write_text(study_text(entry, engine), encoding="utf-8")
    file = studyfile.read(path)
    spec = worker_spec(file, Resolved(engine, keras.backend.backend(), ["cpu"], {}))
    ours, theirs = Pipe()
    try:
        made, ready, trainer, _ = worker._prepare(spec, theirs, None)
    finally:
        ours.close()
        theirs.close()
        gc.unfreeze()
    return Session(made, ready, spec.fixed, trainer)


def train(started: Session, entry: Entry, numbers: Sequence[int] | None = None) -> tuple[list[Curve], list[str]]:
    """Train members, as many at a time as the engine takes: the last ones refill the places of the first."""
    engine, waiting = started.engine, list(range(len(entry.configs)) if numbers is None else numbers)
    curves: list[Curve] = [[] for _ in entry.configs]
    errors = ["" for _ in entry.configs]
    live: set[int] = set()
    while waiting or live:
        while waiting and len(live) < started.ready.places:
            number = waiting.pop(0)
            config = {**started.fixed, **entry.configs[number]}
            # A member that ends sooner lets another into its lane while its neighbour is still in training.
            engine.start(Assignment(Member(number), config, entry.epochs, SEED + number))
            live.add(number)
        verdicts = []
        for event in engine.advance():
            number = getattr(getattr(event, "member", None), "trial", None)
            if isinstance(event, Failed):
                errors[number] = event.reason
                live.discard(number)
                verdicts.append(Verdict(event.member, ends=True))
            elif isinstance(event, EpochEnd):
                curves[number].append(dict(event.metrics))
                ends = event.epoch == (entry.epochs if number else max(1, entry.epochs - 1))
                live -= {number} if ends else set()
                verdicts.append(Verdict(event.member, ends=ends))
        engine.apply(verdicts)
    engine.close()
    return curves, errors


def by_plain_keras(entry: Entry, number: int, *, nudge: float = 0.0) -> Curve:
    """Train a member with nothing but Keras, numpy and what the documentation of best.json says.

    `nudge`: the first weight is scaled by 1 + nudge before training, to see what rounding grows to.
    """
    given = getattr(rows, entry.rows)()
    config = {"optimizer": "adam", **entry.train, "batch_size": entry.batch_size, "epochs": entry.epochs}
    config.update(entry.configs[number])
    keras.utils.clear_session()
    keras.utils.set_random_seed(SEED + number)
    model = entry.build(config, described(entry, given))
    if not model.built:
        model.build((None, *given["x_train"].shape[1:]))
    if not model.compiled:
        compile_plainly(model, config, entry, given)
    if nudge:
        model.trainable_variables[0].assign(np.asarray(model.trainable_variables[0].value, "float64") * (1 + nudge))
    history = model.fit(
        batches(given["x_train"], given["y_train"], entry, SEED + number),
        steps_per_epoch=-(-rows.TRAIN // entry.batch_size),
        epochs=entry.epochs,
        validation_data=(given["x_val"], given["y_val"]),
        verbose=0,
    ).history
    return [numbers({name: values[epoch] for name, values in history.items()}) for epoch in range(entry.epochs)]


def numbers(logs: dict[str, Any]) -> dict[str, float]:
    """Name the numbers of an epoch; a metric of several numbers has a name for each."""
    found = {}
    for name, value in logs.items():
        array = np.asarray(value, "float64")
        for index in np.ndindex(array.shape):
            part = f"[{','.join(map(str, index))}]" if array.size > 1 else ""
            found[name + part] = float(array[index])
    return found


def batches(x: Any, y: Any, entry: Entry, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield the batches of all epochs, in the order that the documentation of best.json gives."""
    for epoch in range(1, entry.epochs + 1):
        order = np.random.default_rng([seed, 1, epoch]).permutation(len(x))
        for start in range(0, len(order), entry.batch_size):
            rows_now = order[start : start + entry.batch_size]
            yield x[rows_now], y[rows_now]


@dataclass(frozen=True)
class Described:
    """What a builder is told of the data, by our own reckoning."""

    input_shape: tuple[int, ...]
    task: str
    classes: int
    outputs: int
    train_rows: int = rows.TRAIN


def described(entry: Entry, given: dict[str, Any]) -> Described:
    x, y = given["x_train"], given["y_train"]
    shape = x.shape[1:]
    if (entry.task or ("regression" if y.dtype.kind == "f" else "")) == "regression":
        one_hot = entry.task != "regression" and set(np.unique(y)) == {0, 1} and (y.sum(axis=1) == 1).all()
        if one_hot:
            return Described(shape, "classification", y.shape[1], y.shape[1])
        return Described(shape, "regression", 0, y.shape[1])
    classes = int(y.max()) + 1
    if classes == 2 and entry.task != "classification":
        return Described(shape, "binary", 2, 1)
    return Described(shape, "classification", classes, classes)


def compile_plainly(model: Any, config: dict[str, Any], entry: Entry, given: dict[str, Any]) -> None:
    """Compile a model as its task asks; models of the gallery that come uncompiled end in logits."""
    task = described(entry, given).task
    loss, metric = {
        "classification": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"),
        "binary": (
            keras.losses.BinaryCrossentropy(from_logits=True),
            keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0),
        ),
        "regression": (keras.losses.MeanSquaredError(), "mae"),
    }[task]
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items() if isinstance(kind, type)}
    kind = kinds[config["optimizer"]]
    # What Keras's optimizers are told by their names; a builder's own parameters are none of theirs.
    known = {"learning_rate", "weight_decay", "momentum", "clipnorm", "beta_1", "use_ema", "ema_overwrite_frequency"}
    model.compile(kind(**{key: value for key, value in config.items() if key in known}), loss=loss, metrics=[metric])


def apart(one: Curve, other: Curve) -> tuple[float, str]:
    """Return how far two curves are from each other, and where; a metric or epoch that one lacks is infinitely far."""
    worst, where = 0.0, ""
    for epoch, (a, b) in enumerate(zip(one, other, strict=False), 1):
        for name in (set(a) | set(b)) - {"learning_rate"}:
            if name not in a or name not in b:
                return float("inf"), f"{name} is not in both"
            distance = abs(a[name] - b[name]) / max(1.0, abs(b[name]))
            if not distance <= worst and not (np.isnan(a[name]) and np.isnan(b[name])):
                worst = float("inf") if np.isnan(distance) else distance
                where = f"{name} of epoch {epoch}: {a[name]:.7g} and {b[name]:.7g}"
    return (worst, where) if one and other else (float("inf"), "no epochs")


@dataclass(frozen=True)
class Pair:
    """Two curves of one member, trained in two ways, which must be the same."""

    ways: str
    number: int
    one: Curve
    other: Curve


def compare(entry: Entry, folder: Path, *, with_lanes: bool) -> dict[str, Any]:
    """Train an entry in all ways; return its problems, in words, and how far apart the ways were."""
    found: dict[str, Any] = {"problems": []}
    lanes = in_lanes(entry, folder, found) if with_lanes else []
    for pair in pairs(entry, folder, lanes, found["problems"]):
        what = f"{pair.ways}, member {pair.number}"
        distance, where = apart(pair.one, pair.other)
        found[what] = distance
        if distance <= entry.tolerance:
            continue
        if entry.is_chaotic and lanes:
            plain = by_plain_keras(entry, pair.number)
            found[f"{what}, fit and itself"] = own = apart(by_plain_keras(entry, pair.number, nudge=1e-7), plain)[0]
            if own >= distance:
                continue
        found["problems"].append(f"{what}: {distance:.2g} apart; {where}")
    return found


def in_lanes(entry: Entry, folder: Path, found: dict[str, Any]) -> list[Curve]:
    """Train an entry in lanes, if it can be; note in `found` what was refused, and what should have been."""
    problems = found["problems"]
    try:
        started = session(entry, "lanes", folder)
    except ManyfitError as error:
        if "lanes can't train" not in str(error):
            raise
        found["reason"] = str(error)
        if entry.may_refuse:
            return []
        if not entry.no_lanes:
            problems.append(f"does not train in lanes: {error}")
        elif not re.search(entry.no_lanes, str(error)):
            problems.append(f"the reason does not name {entry.no_lanes}: {error}")
        return []
    found["programs"] = started.ready.lanes["programs"]
    if entry.no_lanes:
        problems.append(f"trains in lanes, which was to be refused for {entry.no_lanes}")
    curves, errors = train(started, entry)
    problems += [f"lanes, member {n}: {error}" for n, error in enumerate(errors) if error]
    return curves


def pairs(entry: Entry, folder: Path, lanes: list[Curve], problems: list[str]) -> list[Pair]:
    """Train again what lanes have trained: members by plain Keras and by fit in turn. Without lanes, two by both."""
    numbers = range(len(entry.configs) if lanes else 2)
    by_plain = [n for n in numbers if not lanes or n % 2 == 0]
    by_fit = [n for n in numbers if not lanes or n % 2 == 1]
    fit, errors = train(session(entry, "fit", folder), entry, by_fit)
    problems += [f"fit, member {n}: {error}" for n, error in enumerate(errors) if error]
    found = [Pair("lanes and fit", n, lanes[n], fit[n]) for n in by_fit if lanes]
    who, curves = ("lanes", lanes) if lanes else ("fit", fit)
    for number in by_plain:
        try:
            found.append(Pair(f"{who} and plain Keras", number, curves[number], by_plain_keras(entry, number)))
        except Exception as error:
            problems.append(f"plain Keras, member {number}: {failures.one_line(error)}")
    return found


def chosen(wanted: list[str]) -> list[Entry]:
    """Return the entries of groups ("own") and single ones ("own/siamese")."""
    found = []
    for text in wanted:
        group, _, name = text.partition("/")
        importlib.import_module(f"models_{group}")
        found += [GALLERY[group][name]] if name else GALLERY[group].values()
    return found


def main(wanted: list[str]) -> None:
    """Compare entries and print what they came to, each when it is done and all of them at the end."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for entry in chosen(wanted):
            began, processor = time.perf_counter(), time.process_time()
            try:
                found = compare(entry, Path(folder), with_lanes=keras.backend.backend() == "jax")
            except Exception as error:
                found = {"problems": [failures.one_line(error)], "trace": failures.trace(error)}
            found["seconds"] = round(time.perf_counter() - began, 1)
            found["processor"] = round(time.process_time() - processor, 1)
            results[entry.name] = found
            print(entry.name, found, file=sys.stderr, flush=True)
            keras.utils.clear_session()
            if keras.backend.backend() == "jax":
                import jax

                jax.clear_caches()
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
