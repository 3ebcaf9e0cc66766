"""Checks of a study's rows: what they hold, and what is twice. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.checking import rows
from search.checking.baselines import baselines
from search.checking.examples import examples
from search.checking.exhibit import Exhibit
from search.checking.suspects import outliers, wrong_labels
from search.data import Data
from search.data.targets import label_numbers
from search.spec.finding import Finding

# Values this far from 0 train badly without scaling.
LARGE = 100.0
_FEW_DUPLICATES = 0.01
# A class this many times rarer than the most frequent one is rare.
_RARE = 10.0
# More constant features than this share are hardly the borders of images.
_MANY_CONSTANT = 0.5


def checks(test: Data | None = None) -> Mapping[str, Callable[[Data], Iterator[Finding | Exhibit]]]:
    """Return the checks of data, by name; `test` has the test rows as its validation rows."""
    return {
        "remarks": remarks,
        "inputs": inputs,
        "duplicates": duplicates,
        "shared rows": partial(shared_rows, test=test),
        "targets": targets,
        "baselines": baselines,
        "outliers": outliers,
        "likely wrong labels": wrong_labels,
        "examples": partial(examples, test=test),
    }


def remarks(data: Data) -> Iterator[Finding]:
    """Yield what reading the data has warned of, such as a column that alone predicts the target."""
    for text in data.warnings:
        yield Finding("remarks", "look", text)


def inputs(data: Data) -> Iterator[Finding]:
    """Yield what the training rows of each input hold: type, range, features without information."""
    for name, x in rows.inputs_of(data.x_train):
        values = rows.sample(x)
        of = f"{name}: " if name else ""
        count = f"a sample of {len(x):,}" if data.stream is not None else f"{len(x):,}"
        shape = f"{of}{count} training rows of shape {tuple(x.shape[1:])}, {x.dtype}"
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            text = f"{shape}: {bad:,} values are not finite{rows.of_sample(x)}"
            yield Finding("inputs", "stop", text, "fill them in, or remove their rows", {"bad": bad})
            continue
        yield _range(shape, values, rows.of_sample(x))
        yield from _constant(of, values, rows.of_sample(x))


def _range(shape: str, values: NDArray[Any], of_sample: str) -> Finding:
    low, high = float(values.min()), float(values.max())
    return Finding(
        "inputs", "ok", f"{shape}, from {low:.4g} to {high:.4g}{of_sample}", numbers={"low": low, "high": high}
    )


def _constant(of: str, values: NDArray[Any], of_sample: str) -> Iterator[Finding]:
    flat = values.reshape(len(values), -1)
    is_constant = (flat == flat[0]).all(axis=0)
    constant = int(is_constant.sum())
    numbers = {"constant": constant, "of": flat.shape[1]}
    if constant == flat.shape[1]:
        advice = "nothing can be learnt from them: see how the data are read"
        text = f"{of}all {constant} features are constant{of_sample}"
        yield Finding("constant features", "stop", text, advice, numbers)
        return
    text = f"{of}{constant} of {flat.shape[1]} features are constant{of_sample}"
    # The borders of images are constant, also where these come as flat rows. Remarks name the columns of a table.
    if constant > _MANY_CONSTANT * flat.shape[1]:
        yield Finding("constant features", "look", text, "see how the data are read; drop what holds nothing", numbers)
    else:
        yield Finding("constant features", "ok", text, numbers=numbers)


def duplicates(data: Data) -> Iterator[Finding]:
    """Yield how many training rows repeat an earlier one, and how many of these have another label."""
    keys = rows.digests(data.x_train, data)
    first: dict[bytes, int] = {}
    pairs = [(first[key], row) for row, key in enumerate(keys) if first.setdefault(key, row) != row]
    share = len(pairs) / len(keys)
    text = f"{len(pairs):,} of {len(keys):,} training rows repeat an earlier one ({share:.1%})"
    numbers = {"rows": float(len(pairs)), "share": share}
    if pairs and not data.has_several_outputs:
        y = np.asarray(data.y_train).reshape(len(keys), -1)
        other = sum(not np.array_equal(y[one], y[row]) for one, row in pairs)
        text += f", {other:,} of them with another target" if other else ""
        numbers["contradict"] = other
    is_many = share > _FEW_DUPLICATES
    advice = "drop them, or split by the group that they are of (data.group)" if is_many else ""
    yield Finding("duplicates", "look" if is_many else "ok", text, advice, numbers)


def shared_rows(data: Data, test: Data | None = None) -> Iterator[Finding]:
    """Yield how many validation and test rows are training rows, too, and how many test rows are validation rows."""
    keys = {"training": rows.digests(data.x_train, data), "validation": rows.digests(data.x_validation, data)}
    if test is not None:
        keys["test"] = rows.digests(test.x_validation, test)
    pairs = [("validation", "training"), ("test", "training"), ("test", "validation")]
    for split, other in pairs:
        if split not in keys:
            continue
        known = set(keys[other])
        count = sum(key in known for key in keys[split])
        share = count / len(keys[split])
        text = f"{count:,} of {len(keys[split]):,} {split} rows are {other} rows, too ({share:.1%})"
        advice = f"drop them, or split by groups (data.group): the value of the {split} rows would be of known rows"
        yield Finding(
            "shared rows", "look" if count else "ok", text, advice if count else "", {"rows": count, "share": share}
        )


def targets(data: Data) -> Iterator[Finding]:
    """Yield the balance of classes, or the range of numbers, of each output."""
    for name in data.info.targets or ("",):
        one = data.output(name)
        of = f"{name}: " if name else ""
        yield _numbers(of, np.asarray(one.y_train)) if one.info.task == "regression" else _classes(of, one)


def _numbers(of: str, y: NDArray[Any]) -> Finding:
    low, high, spread = float(y.min()), float(y.max()), float(y.std())
    text = f"{of}from {low:.4g} to {high:.4g}, mean {y.mean():.4g}, standard deviation {spread:.4g}"
    numbers = {"low": low, "high": high, "mean": float(y.mean()), "standard deviation": spread}
    if low == high:
        return Finding("targets", "stop", text, "all targets are equal: see how they are read", numbers)
    if max(abs(low), abs(high)) > LARGE:
        return Finding("targets", "look", text, "subtract their mean and divide by their standard deviation", numbers)
    return Finding("targets", "ok", text, numbers=numbers)


def _classes(of: str, data: Data) -> Finding:
    train, validation = (
        np.bincount(label_numbers(np.asarray(y)), minlength=data.info.classes)
        for y in (data.y_train, data.y_validation)
    )
    names = data.info.class_names or tuple(map(str, range(data.info.classes)))
    most, least = int(train.argmax()), int(train.argmin())
    text = (
        f"{of}{data.info.classes} classes; {names[most]!r} has {train[most]:,} of {train.sum():,} training rows, "
        f"{names[least]!r} {train[least]:,}"
    )
    numbers = {"most": int(train[most]), "least": int(train[least])}
    if missing := [name for name, count in zip(names, validation, strict=False) if not count]:
        text += f"; no validation row is of {', '.join(map(repr, missing[:5]))}"
        return Finding("targets", "look", text, "raise validation in [data], or add rows of these classes", numbers)
    if train[most] > _RARE * max(1, int(train[least])):
        advice = (
            "judge by val_loss or an area under the curve rather than accuracy; start the last layer at the base rate: "
            f"bias_initializer = keras.initializers.Constant({base_rate_bias(train, data.info.task)})"
        )
        return Finding("targets", "look", text, advice, numbers)
    return Finding("targets", "ok", text, numbers=numbers)


def base_rate_bias(counts: NDArray[Any], task: str) -> str:
    """Return the bias of the last layer with which an untrained model predicts the base rate of each class."""
    if task == "binary":
        return f"{np.log(max(counts[1], 1) / max(counts[0], 1)):.3g}"
    return f"[{', '.join(f'{value:.3g}' for value in np.log(np.maximum(counts, 1) / counts.sum()))}]"
