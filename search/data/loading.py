"""Loads the data of a study: read, check, split, encode or scale, fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data import dense, exact, features, leaks, several
from search.data.choosing import Chosen, choose
from search.data.dataset import Data, DataInfo, OutputInfo, Raw, together
from search.data.features import Features
from search.data.folds import Fold
from search.data.roles import check_given, divided
from search.data.several import Bundle, Tree
from search.data.sources import has_own_shapes, locate
from search.data.splits import Scaling, fingerprint
from search.data.table import Table, Texts
from search.data.texts import Vocabulary
from search.data.uses import Use, check_use, in_memory, judged_by, training
from search.data.windows import in_order
from search.errors import DataError
from search.spec.usercode import our_modules

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.data.row_streams import Stream
    from search.data.targets import Targets
    from search.spec.settings import DataSection

    Arrays = dict[str, dict[str, Array]]


def check(section: DataSection, base: Path) -> None:
    """Check what can be checked at once, without running the user's code; `base` is the study file's folder.

    Raises DataError: no such source or file, an .npz without its keys, a .csv without header or target, a
    folder without classes, a missing data function.
    """
    try:
        locate(section, base).check()
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None


def load(section: DataSection, base: Path, seed: int, use: Use = "study", folds: int = 1) -> Data:
    """Read, check, split and scale the data; the same arguments and files give the same arrays.

    The source's own splits are used as they are. Missing splits are cut from its training rows, test before
    validation, stratified by class (of the first output that has classes); the fractions are of those rows (after `limit`).
    Images in bytes (uint8, rows of two or more dimensions) are scaled to 0..1; `scale` is fitted on the training rows.
    Targets that equal the features (an autoencoder's) are scaled in the same way. Several inputs are left as they are, but
    for tables and texts, which are encoded. With `window`, rows become windows after they are split.

    With more than one fold, the result is that of the first, and its `folds` are all of them, each split, scaled and encoded
    by itself: what a fold judges by has no part in how its rows are prepared.

    `use` changes which rows `Data` has as training and as validation rows. Splits, scaling, encodings and fingerprint are
    the same for each use.

    Raises DataError, which names the file and, if possible, the row.
    """
    check(section, base)
    try:
        bundle = Bundle.of(locate(section, base).read(seed)).validated()
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None
    with our_modules():  # a data function of the user's may have been imported
        if folds == 1:
            return _prepared(bundle, section, base, seed, use)
        return together([_prepared(bundle, section, base, seed, use, Fold(fold, folds)) for fold in range(folds)], use)


def _prepared(bundle: Bundle, section: DataSection, base: Path, seed: int, use: Use, fold: Fold | None = None) -> Data:
    """Return what a source holds, split, encoded or scaled."""
    bundle = bundle.each(lambda parts: divided(in_order(parts, section)))
    bundle.check(section)
    tasks, keeps_shape = _tasks(section, bundle), has_own_shapes(section, base)
    targets = {
        name: dense.any_targets_of(parts, tasks[name], keeps_shape=keeps_shape)
        for name, parts in bundle.outputs.items()
    }
    if bundle.stream is not None:
        bundle = replace(bundle, stream=_with_classes(bundle, targets))
        section = section.model_copy(update={"test": 0.0})  # its test rows stay with the user
    warnings = [*bundle.warnings, *check_given(next(iter(bundle.outputs.values())))]
    chosen, remarks = choose(bundle, targets, section, seed, fold)
    check_use(use, bundle, chosen)
    chosen = replace(chosen, judged=judged_by(use))
    warnings += [*remarks, *_leaks(bundle, targets, chosen)]
    inputs = _inputs(bundle, targets, section, chosen, warnings)
    y = {name: chosen.of(given.y) for name, given in targets.items()}
    shaped = {name: chosen.of(given.shaped) for name, given in targets.items()}
    _scale_like_features(bundle, targets, chosen, inputs, (y, shaped))
    weights = {name: chosen.of(by_split) for name, by_split in bundle.weights.items()}
    prepared = _data(bundle, targets, chosen, inputs, (y, shaped, weights), warnings, use)
    rows = (chosen.rows["train"][1], chosen.rows["validation"][1])
    return prepared if fold is None else replace(prepared, rows=rows)


def _inputs(
    bundle: Bundle, targets: Mapping[str, Targets], section: DataSection, chosen: Chosen, warnings: list[str]
) -> dict[str, Features]:
    """Return every input as models get it; append warnings, also on targets that lose digits."""
    are_tables = {name: isinstance(parts.splits["train"].encodable, Table) for name, parts in bundle.inputs.items()}
    how = section.scale
    if how == "auto":
        how = "standard" if any(are_tables.values()) else "none"
    is_one = bundle.x_form == "one"
    # Beside arrays of texts, `text` is theirs alone.
    has_texts = any(isinstance(parts.splits["train"].encodable, Texts) for parts in bundle.inputs.values())
    of_tables = section.model_copy(update={"text": None}) if has_texts else section
    made: dict[str, Features] = {}
    for name, parts in bundle.inputs.items():
        is_encoded = parts.splits["train"].encodable is not None
        if is_encoded:
            made[name] = features.encoded(parts, chosen, of_tables if are_tables[name] else section, how)
        elif is_one and bundle.stream is None:
            made[name] = features.scaled(parts, chosen, how)
        else:
            made[name] = features.kept(parts, chosen, is_stream=bundle.stream is not None)
        warnings += made[name].warnings
        if is_one and bundle.stream is None:
            for output, given in bundle.outputs.items():
                is_regression = targets[output].task == "regression"
                warnings += exact.precision_warnings(given, "none" if is_encoded else how, is_regression=is_regression)
    return made


def _scale_like_features(
    bundle: Bundle,
    targets: Mapping[str, Targets],
    chosen: Chosen,
    inputs: Mapping[str, Features],
    both: tuple[Arrays, Arrays],
) -> None:
    """Scale targets that equal the features as these are scaled, in place."""
    if bundle.x_form != "one" or bundle.stream is not None or chosen.windows:
        return
    x = inputs[""].arrays
    if inputs[""].encoding is not None or x["train"].dtype.kind == "i":
        return
    for name, parts in bundle.outputs.items():
        if targets[name].task == "regression" and dense.targets_are_features(parts):
            for y in both:
                y[name] = {split: x[split].reshape(array.shape) for split, array in y[name].items()}


def _data(
    bundle: Bundle,
    targets: Mapping[str, Targets],
    chosen: Chosen,
    inputs: Mapping[str, Features],
    of_rows: tuple[Arrays, Arrays, Arrays],
    warnings: list[str],
    use: Use,
) -> Data:
    y, shaped, weights = of_rows
    stream = bundle.stream
    x = {name: made.arrays for name, made in inputs.items()}
    all_arrays = dict(_flat("x", x)) | dict(_flat("y", y)) | dict(_flat("w", weights))
    if stream is not None and not stream.is_seeded:
        all_arrays = {key: array for key, array in all_arrays.items() if "_train" not in key}

    def trained(given: Mapping[str, Mapping[str, Array]], form: several.Form) -> Tree:
        return several.packed({name: training(by_split, use) for name, by_split in given.items()}, form)

    def judged(given: Mapping[str, Mapping[str, Array]], form: several.Form) -> Tree:
        return several.packed({name: in_memory(by_split[chosen.judged]) for name, by_split in given.items()}, form)

    w_form: several.Form = "one" if "" in weights else bundle.y_form
    light = {name: {split: _float(array) for split, array in given.items()} for name, given in weights.items()}
    train = next(iter(bundle.outputs.values())).splits
    return Data(
        info=_info(bundle, targets, chosen, inputs, use),
        x_train=trained(x, bundle.x_form),
        y_train=trained(shaped, bundle.y_form),
        x_validation=judged(x, bundle.x_form),
        y_validation=judged(shaped, bundle.y_form),
        fingerprint=fingerprint(all_arrays),
        raw=Raw(features.raw_of(inputs, bundle.x_form), frozenset(_one_hot(bundle, targets))),
        scaling=inputs[""].scaling if bundle.x_form == "one" else Scaling(),
        warnings=tuple(dict.fromkeys(warnings)),
        own_splits=tuple(split for split in ("validation", "test") if split in train),
        w_train=trained(light, w_form) if weights else None,
        w_validation=judged(light, w_form) if weights else None,
        stream=stream,
        encodings={name: made.encoding for name, made in inputs.items() if made.encoding is not None},
        columns=tuple(_described(bundle, inputs)),
        is_full=use == "full",
        place=None if chosen.windows or stream is not None or use == "full" else _place(bundle, chosen),
    )


def _place(bundle: Bundle, chosen: Chosen) -> Callable[[int], str]:
    origin, numbers = chosen.rows["train"]
    # Keep no more than this of the source, whose rows may take much memory.
    place = next(iter(bundle.inputs.values())).splits[origin].place
    return lambda row: place(int(numbers[row]))


def _info(
    bundle: Bundle, targets: Mapping[str, Targets], chosen: Chosen, inputs: Mapping[str, Features], use: Use
) -> DataInfo:
    outputs = {name: _output_info(given) for name, given in targets.items()}
    counts: dict[str, Any] = {f"{split}_rows": len(index) for split, (_, index) in chosen.rows.items()}
    if use == "full":
        counts["train_rows"] += counts["validation_rows"]
    if bundle.stream is not None:
        counts |= {"train_rows": 0, "train_batches": bundle.stream.steps}
    sizes = {name: made.encoding.size for name, made in inputs.items() if isinstance(made.encoding, Vocabulary)}
    train = {name: made.arrays["train"] for name, made in inputs.items()}
    is_one = bundle.x_form == "one"
    return DataInfo(
        input_shape=train[""].shape[1:] if is_one else (),
        **asdict(outputs[""] if bundle.y_form == "one" else OutputInfo("several", 0, 0)),
        **counts,
        inputs={} if is_one else {name: (x.shape[1:], str(x.dtype)) for name, x in train.items()},
        targets={} if bundle.y_form == "one" else outputs,
        vocabulary_size=sizes.get("", 0),
        vocabulary_sizes={} if is_one else sizes,
    )


def _leaks(bundle: Bundle, targets: Mapping[str, Targets], chosen: Chosen) -> Iterator[str]:
    """Yield warnings on columns of a single table that alone predict the target."""
    if chosen.windows or bundle.stream is not None or not bundle.x_form == bundle.y_form == "one":
        return
    origin, rows = chosen.rows["train"]
    part, given = bundle.inputs[""].splits[origin], targets[""]
    sample = leaks.sample_of(rows)
    columns = dict(zip(part.columns, part.x[sample].T, strict=True)) if part.columns and part.x.ndim == 2 else {}
    if isinstance(part.encodable, Table):
        columns = leaks.columns_of(part.encodable, part.x[sample, 0])
    yield from leaks.warnings_of(columns, given.y[origin], rows, is_regression=given.task == "regression")


def _described(bundle: Bundle, inputs: Mapping[str, Features]) -> Iterator[Mapping[str, Any]]:
    for name, made in inputs.items():
        if isinstance(made.encoding, Vocabulary):
            yield from made.encoding.described(name)
        elif made.encoding is not None:
            yield from made.encoding.described()
    if bundle.x_form == "one" and inputs[""].encoding is None:
        for column in bundle.inputs[""].splits["train"].columns:
            yield {"name": column, "kind": "number", "features": 1, "how": ""}


def _tasks(section: DataSection, bundle: Bundle) -> dict[str, str | None]:
    """Return the task that the study file wants of each output."""
    wanted = section.task
    if isinstance(wanted, str) or wanted is None:
        return dict.fromkeys(bundle.outputs, wanted)
    if unknown := sorted(set(wanted) - set(bundle.outputs)):
        there = ", ".join(name for name in bundle.outputs if name)
        raise DataError(
            f"{bundle.name}: task is of an output {unknown[0]!r}; "
            + (f"there are {there}" if there else 'there is one output without a name: write task = "regression", say'),
            key="data.task",
        )
    return {name: wanted.get(name) for name in bundle.outputs}


def _with_classes(bundle: Bundle, targets: Mapping[str, Targets]) -> Stream:
    """Return the stream with its numbers of classes; DataError for labels other than 0, 1, 2 ...: nothing renumbers them."""
    assert bundle.stream is not None  # noqa: S101
    classes = {}
    for name, given in targets.items():
        y, count = bundle.outputs[name].splits["train"].y, len(given.class_names)
        if not count:
            continue
        is_one_hot = y.ndim == 2 and y.shape[1] > 1
        is_numbered = given.class_names == tuple(map(str, range(count))) and (is_one_hot or y.dtype.kind in "iu")
        if not is_numbered or (is_one_hot and y.shape[1] != count):
            raise DataError(
                f"{bundle.outputs[name].name}: the first training rows and the validation rows have the labels "
                f"{', '.join(given.class_names[:8])}; labels of batches go to the model as they are: give whole numbers 0, "
                "1, 2 ... (or one-hot rows), and every class among the validation rows"
            )
        if not is_one_hot:
            classes[name] = count
    return replace(bundle.stream, classes=classes)


def _flat(letter: str, given: Mapping[str, Mapping[str, Array]]) -> Iterator[tuple[str, Array]]:
    for name, arrays in given.items():
        for split, array in arrays.items():
            yield f"{letter}_{split}{f'/{name}' if name else ''}", array


def _output_info(targets: Targets) -> OutputInfo:
    return OutputInfo(targets.task, len(targets.class_names), targets.outputs, targets.class_names)


def _one_hot(bundle: Bundle, targets: Mapping[str, Targets]) -> Iterator[str]:
    """Yield the outputs whose labels are one-hot rows in the source."""
    for name, parts in bundle.outputs.items():
        y = parts.splits["train"].y
        if targets[name].task != "regression" and y.ndim == 2 and y.shape[1] > 1:
            yield name


def _float(array: Array) -> Array:
    import numpy as np

    return np.ascontiguousarray(array, np.float32)
