"""Data sources -> arrays, splits and a fingerprint. Bad data raise an error here, before the first trial.

`check` is for the coordinator and takes milliseconds; `load` is for the worker. Importing this package or checking a
source does not import keras, scikit-learn, pandas, Pillow or numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.data import dense, exact, leaks, several, table_encoding
from search.data.roles import check_given, divided
from search.data.several import Bundle, Tree
from search.data.sources import has_own_shapes, locate
from search.data.splits import Scaling, check_learnable, divide, fingerprint, scale, uneven
from search.data.stored_images import StoredImages
from search.data.tabular import refuse_series
from search.data.windows import cut, in_order
from search.errors import DataError
from search.spec.usercode import our_modules

if TYPE_CHECKING:
    from search.data.parts import Array, Part, Parts
    from search.data.row_streams import Stream
    from search.data.table import Table
    from search.data.table_encoding import Encoding
    from search.data.targets import Targets
    from search.spec.settings import DataSection


@dataclass(frozen=True, slots=True)
class OutputInfo:
    """The facts about one of several outputs; the attributes are those of `DataInfo`."""

    task: str
    classes: int
    outputs: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The facts about the data that a builder gets.

    With several inputs, `input_shape` is () and `inputs` has their shapes. With several outputs, `task` is "several",
    `classes` and `outputs` are 0, and `targets` has the facts of each.

    Attributes:
        input_shape: the shape of one row.
        task: "classification", "binary" or "regression".
        classes: the number of classes; 2 for binary, 0 for regression.
        outputs: numbers that a model must give for a row: one per class, 1 for binary, one per target for regression.
        class_names: the class of each label 0, 1, ...; empty for regression.
        train_batches: batches of an epoch of rows that are read as they are needed; `train_rows` is then 0.
        inputs: name -> (shape of one row, dtype) of several inputs; those of a tuple are named "0", "1", ...
        targets: name -> facts of each of several outputs.
    """

    input_shape: tuple[int, ...]
    task: str
    classes: int
    outputs: int
    class_names: tuple[str, ...] = ()
    train_rows: int = 0
    validation_rows: int = 0
    test_rows: int = 0
    train_batches: int = 0
    inputs: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    targets: Mapping[str, OutputInfo] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Raw:
    """Rows as the source has them; an exported model takes rows of this form.

    Attributes:
        x_validation: the validation rows before any scaling; of an encoded table column name -> (rows,).
        one_hot: the outputs whose labels are one-hot rows in the source; "" is the only one.
    """

    x_validation: Tree
    one_hot: frozenset[str] = frozenset()

    @property
    def is_one_hot(self) -> bool:
        """Whether the labels of the only output are one-hot rows in the source."""
        return "" in self.one_hot


@dataclass(frozen=True, eq=False)
class Data:
    """Arrays to train on and to validate with; the test rows are held out, only counted and fingerprinted.

    x and y are single arrays, or dictionaries or tuples of arrays for several inputs or outputs.

    Attributes:
        x_train, x_validation: float32, C-contiguous, (rows, *info.input_shape); int32 or int64 if they are whole numbers
            that float32 would change. One of several inputs keeps its dtype, but reals are float32, and integers int32 if
            that holds them.
        y_train, y_validation: in the shape that the source gave. Labels are (rows,), (rows, 1) or one-hot rows, int32
            (float32 where the source has floats); a regression's targets are (rows,) or (rows, targets, ...), float32. A
            source without a shape of its own (a column of a table, a named data set) gives (rows, 1) for a model of one
            output and (rows,) for several classes.
        fingerprint: 32 hex digits of all splits' bytes, shapes and dtypes, test rows included. Of y only the numbers count:
            `targets` has its form and the names of its classes.
        warnings: remarks on data that were taken, or left out, and may not be meant.
        scaling: the scaling that turned `raw` rows into these.
        encoding: what turned the columns of a table into features; None for any other source.
        columns: name, kind, number of features and remarks of each column of a table.
        own_splits: which of "validation" and "test" the source has itself.
        stream: the training rows, if they are read as they are needed; x_train and y_train are then a sample of them.
        w_train, w_validation: weights of rows (rows,), float32, or a dictionary or tuple of these by output; None without.
    """

    info: DataInfo
    x_train: Tree
    y_train: Tree
    x_validation: Tree
    y_validation: Tree
    fingerprint: str
    raw: Raw
    scaling: Scaling
    warnings: tuple[str, ...] = ()
    own_splits: tuple[str, ...] = ()
    w_train: Tree | None = None
    w_validation: Tree | None = None
    stream: Stream | None = None
    encoding: Encoding | None = None
    columns: tuple[Mapping[str, Any], ...] = ()

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column of an encoded table; empty for any other source."""
        return {} if self.encoding is None else dict(self.encoding.columns)

    @property
    def has_several_outputs(self) -> bool:
        """Whether y is a dictionary or tuple of arrays."""
        return not hasattr(self.y_train, "shape")

    def output(self, name: str) -> Data:
        """Return the data as a model of this output alone would get them; "" is a single output."""
        if not self.has_several_outputs:
            return self
        info = self.info.targets[name]
        key: Any = name if isinstance(self.y_train, dict) else int(name)
        return replace(
            self,
            info=replace(
                self.info,
                task=info.task,
                classes=info.classes,
                outputs=info.outputs,
                class_names=info.class_names,
                targets={},
            ),
            y_train=self.y_train[key],
            y_validation=self.y_validation[key],
            raw=replace(self.raw, one_hot=frozenset([""] if name in self.raw.one_hot else [])),
            w_train=self.w_train[key] if isinstance(self.w_train, dict | tuple) else self.w_train,
            w_validation=self.w_validation[key] if isinstance(self.w_validation, dict | tuple) else self.w_validation,
        )

    @property
    def targets(self) -> dict[str, Any]:
        """What the fingerprint leaves out: the classes' names, and the shape and dtype of targets as models get them."""
        if self.has_several_outputs:
            return {name: self.output(name).targets for name in self.info.targets}
        more = ", ".join(map(str, self.y_train.shape[1:]))
        return {
            "classes": list(self.info.class_names),
            "shape": f"(rows, {more})" if more else "(rows,)",
            "dtype": str(self.y_train.dtype),
        }


def check(section: DataSection, base: Path) -> None:
    """Check what can be checked at once, without running the user's code; `base` is the study file's folder.

    Raises DataError: no such source or file, an .npz without its keys, a .csv without header or target, a
    folder without classes, a missing data function.
    """
    try:
        locate(section, base).check()
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None


def load(section: DataSection, base: Path, seed: int) -> Data:
    """Read, check, split and scale the data; the same arguments and files give the same arrays.

    The source's own splits are used as they are. Missing splits are cut from its training rows, test before
    validation, stratified by class (of the first output that has classes); the fractions are of those rows (after `limit`).
    Images in bytes (uint8, rows of two or more dimensions) are scaled to 0..1; `scale` is fitted on the training rows.
    Targets that equal the features (an autoencoder's) are scaled in the same way. Several inputs are left as they are.
    With `window`, rows become windows after they are split.

    Raises DataError, which names the file and, if possible, the row.
    """
    check(section, base)
    try:
        bundle = Bundle.of(locate(section, base).read(seed)).validated()
    except OSError as error:
        raise DataError(f"{section.source}: can't be read: {error}") from None
    with our_modules():  # a data function of the user's may have been imported
        return _prepared(bundle, section, base, seed)


def _prepared(  # noqa: PLR0915 (steps in a fixed order)
    bundle: Bundle, section: DataSection, base: Path, seed: int
) -> Data:
    """Return what a source holds, split and scaled."""
    bundle = bundle.each(lambda parts: divided(in_order(parts, section)))
    bundle.check(section)
    tables = _tables(bundle, section)
    if section.scale == "auto":
        section = section.model_copy(update={"scale": "standard" if tables else "none"})
    tasks, keeps_shape = _tasks(section, bundle), has_own_shapes(section, base)
    targets = {
        name: dense.any_targets_of(parts, tasks[name], keeps_shape=keeps_shape)
        for name, parts in bundle.outputs.items()
    }
    first = next((name for name in targets if targets[name].class_names), next(iter(targets)))
    parts = bundle.outputs[first]
    stream = bundle.stream and _with_classes(bundle, targets)
    if stream is not None:
        section = section.model_copy(update={"test": 0.0})  # its test rows stay with the user
    warnings = [*bundle.warnings, *check_given(parts)]
    rows = _all_rows(parts) if stream else divide(parts, targets[first], section, seed)
    warnings += uneven(parts, targets[first], section, rows)
    series = None
    if windows := cut(parts, section, rows, seed):
        series = parts.splits[windows["train"].origin].x[windows["train"].rows]
        rows = {split: (each.origin, each.targets) for split, each in windows.items()}
    for name, given in targets.items():
        if stream is None:  # the sample may lack a class
            check_learnable(bundle.outputs[name], given, rows)
    if not windows and stream is None and bundle.x_form == bundle.y_form == "one":
        warnings += _leaks(parts, targets[""], rows["train"])

    def of_rows(by_split: Mapping[str, Array]) -> dict[str, Array]:
        return {split: by_split[origin][index] for split, (origin, index) in rows.items()}

    def of_inputs(by_split: Mapping[str, Part]) -> dict[str, Array]:
        if windows:
            return {split: windows[split].features(by_split[origin].x) for split, (origin, _) in rows.items()}
        return {split: _chosen(by_split[origin].x, index, split) for split, (origin, index) in rows.items()}

    y = {name: of_rows(given.y) for name, given in targets.items()}
    shaped = {name: of_rows(given.shaped) for name, given in targets.items()}
    x = {name: of_inputs(parts.splits) for name, parts in bundle.inputs.items()}
    weights = {name: of_rows(by_split) for name, by_split in bundle.weights.items()}
    raw = several.packed({name: arrays["validation"] for name, arrays in x.items()}, bundle.x_form)
    scaling, encoded = Scaling(), None
    is_one = bundle.x_form == "one"
    if tables:
        raw, encoded = _encode(bundle, targets, section, x[""], warnings, [origin for origin, _ in rows.values()])
    elif is_one and stream is None:
        scaling = _scale(bundle, targets, section, x[""], y, shaped, warnings, series)
    else:
        for name, arrays in x.items():
            where = bundle.inputs[name].name
            x[name] = {split: several.kept(array, where) for split, array in arrays.items()}
    all_arrays = dict(_flat("x", x)) | dict(_flat("y", y)) | dict(_flat("w", weights))
    outputs = {name: _output_info(given) for name, given in targets.items()}
    if stream is not None and not stream.is_seeded:
        all_arrays = {key: array for key, array in all_arrays.items() if "_train" not in key}
    counts: dict[str, Any] = {f"{split}_rows": len(index) for split, (_, index) in rows.items()}
    if stream is not None:
        counts |= {"train_rows": 0, "train_batches": stream.steps}
    info = DataInfo(
        input_shape=x[""]["train"].shape[1:] if is_one else (),
        **asdict(outputs[""] if bundle.y_form == "one" else OutputInfo("several", 0, 0)),
        **counts,
        inputs={name: (given["train"].shape[1:], str(given["train"].dtype)) for name, given in x.items() if not is_one},
        targets={} if bundle.y_form == "one" else outputs,
    )

    def of(split: str, given: Mapping[str, Mapping[str, Array]], form: several.Form) -> Tree:
        return several.packed({name: by_split[split] for name, by_split in given.items()}, form)

    w_form: several.Form = "one" if "" in weights else bundle.y_form
    light = {name: {split: _float(array) for split, array in given.items()} for name, given in weights.items()}
    return Data(
        info=info,
        x_train=of("train", x, bundle.x_form),
        y_train=of("train", shaped, bundle.y_form),
        x_validation=of("validation", x, bundle.x_form),
        y_validation=of("validation", shaped, bundle.y_form),
        fingerprint=fingerprint(all_arrays),
        raw=Raw(raw, frozenset(_one_hot(bundle, targets))),
        scaling=scaling,
        warnings=tuple(dict.fromkeys(warnings)),
        own_splits=tuple(split for split in ("validation", "test") if split in parts.splits),
        w_train=of("train", light, w_form) if weights else None,
        w_validation=of("validation", light, w_form) if weights else None,
        stream=stream,
        encoding=encoded,
        columns=_described(bundle, encoded),
    )


def _chosen(x: Array, index: Array, split: str) -> Array:
    """Return rows of the features; images that stay in their files are read for validation only."""
    # Validation rows are evaluated every epoch, as one array.
    if isinstance(x, StoredImages) and split != "validation":
        rows: Any = x.taken(index)
    else:
        rows = x[index]
    chosen: Array = rows
    return chosen


def _tables(bundle: Bundle, section: DataSection) -> dict[str, Table]:
    """Return the table of each split of a source whose columns are encoded; DataError if it is to be a series."""
    splits = next(iter(bundle.inputs.values())).splits if bundle.x_form == "one" else {}
    tables = {split: part.table for split, part in splits.items() if part.table is not None}
    if tables and section.window is not None:
        refuse_series(tables["train"], bundle.name)
    return tables


def _encode(
    bundle: Bundle,
    targets: Mapping[str, Targets],
    section: DataSection,
    x: dict[str, Array],
    warnings: list[str],
    origins: list[str],
) -> tuple[dict[str, Array], Encoding]:
    """Replace the features of each split, which number the rows of its table, by the encoded rows, in place.

    Add warnings on numbers that lose digits; return the raw validation rows and the encoding. `origins`: the split of the
    source that each split is of.
    """
    tables = _tables(bundle, section)
    for table in tables.values():
        warnings += exact.table_warnings(table, section.scale, bundle.name)
    for name, parts in bundle.outputs.items():
        warnings += exact.precision_warnings(parts, "none", is_regression=targets[name].task == "regression")
    of = dict(zip(x, (tables[origin] for origin in origins), strict=True))
    raw = of["validation"].raw(x["validation"][:, 0])
    adapted = table_encoding.adapt(of["train"], x["train"][:, 0], section.scale, bundle.name)
    for split, table in of.items():
        x[split] = table_encoding.encode(adapted, table, x[split][:, 0])
    return raw, adapted


def _leaks(parts: Parts, targets: Targets, train: tuple[str, Array]) -> Iterator[str]:
    """Yield warnings on columns of a table that alone predict the target."""
    origin, rows = train
    part = parts.splits[origin]
    sample = leaks.sample_of(rows)
    columns = dict(zip(part.columns, part.x[sample].T, strict=True)) if part.columns and part.x.ndim == 2 else {}
    if part.table is not None:
        columns = leaks.columns_of(part.table, part.x[sample, 0])
    yield from leaks.warnings_of(columns, targets.y[origin], rows, is_regression=targets.task == "regression")


def _described(bundle: Bundle, encoded: Encoding | None) -> tuple[Mapping[str, Any], ...]:
    if encoded is not None:
        return encoded.described()
    names = next(iter(bundle.inputs.values())).splits["train"].columns if bundle.x_form == "one" else ()
    return tuple({"name": name, "kind": "number", "features": 1, "how": ""} for name in names)


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


def _all_rows(parts: Parts) -> dict[str, tuple[str, Array]]:
    import numpy as np

    return {split: (split, np.arange(len(part.x))) for split, part in parts.splits.items()}


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


def _scale(
    bundle: Bundle,
    targets: Mapping[str, Targets],
    section: DataSection,
    x: dict[str, Array],
    y: dict[str, dict[str, Array]],
    shaped: dict[str, dict[str, Array]],
    warnings: list[str],
    series: Array | None,
) -> Scaling:
    """Scale the features, and targets that equal them, in place; add warnings on numbers that lose digits."""
    features = bundle.inputs[""]
    integer_dtype = exact.integer_dtype(features, section.scale)
    for name, parts in bundle.outputs.items():
        is_regression = targets[name].task == "regression"
        warnings += exact.precision_warnings(parts, section.scale, is_regression=is_regression)
    arrays = {f"x_{split}": array for split, array in x.items()}
    if integer_dtype is None:
        scaling = scale(arrays, section.scale, features.name, series)
    else:
        exact.to_integers(arrays, integer_dtype)
        scaling = Scaling()
    x.update({key[2:]: array for key, array in arrays.items()})
    for name, parts in bundle.outputs.items():
        if integer_dtype is not None or section.window is not None:
            continue
        if targets[name].task == "regression" and dense.targets_are_features(parts):
            y[name] = {split: x[split].reshape(array.shape) for split, array in y[name].items()}
            shaped[name] = {split: x[split].reshape(array.shape) for split, array in shaped[name].items()}
    return scaling


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
