"""Training rows that are read batch by batch, as they are needed: tf.data pipelines, PyDatasets, functions that give batches.

The validation rows are read once, into memory. Of the training rows only the first are kept, as a sample that tells shapes,
dtypes and tasks.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from search.data.parts import SPLITS
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array

Kind = Literal["tf.data", "PyDataset", "function"]
_FORM = (
    'return {"train": batches, "validation": batches}, where batches are a tf.data.Dataset, a keras.utils.PyDataset, or a '
    'function that returns an iterator of batches (then with "steps": batches of an epoch)'
)
# The sample has rows from at most so many batches, and no more rows than this if one batch has fewer.
_SAMPLE_BATCHES, _SAMPLE_ROWS = 16, 1024
_LARGEST_VALIDATION = 4 * 2**30


@dataclass(frozen=True, eq=False)
class Stream:
    """The training rows of a study, in batches of their own size.

    Attributes:
        name: of the source, for errors.
        given: what the data function returned for training.
        steps: batches of an epoch.
        repeats: whether each epoch has the same batches in the same order, so that a training can resume after any of them.
        is_seeded: whether a new call of the data function gives the same batches.
        make: returns `given` anew.
        classes: output, or "" for a single one -> number of classes, for labels that are whole numbers.
    """

    name: str
    given: Any
    kind: Kind
    steps: int
    repeats: bool
    is_seeded: bool
    make: Callable[[], Any]
    classes: Mapping[str, int] = field(default_factory=dict)

    def for_training(self) -> Any:
        """Return what a new training reads: always the same, if the data function is seeded."""
        return self.given if self.repeats else self.make()

    def batches(self, given: Any, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch (counted from 0) of a function that gives batches."""
        count = 0
        for batch in itertools.islice(_called(given, epoch, self.name), self.steps):
            count += 1
            self.check_labels(batch)
            yield batch
        if count < self.steps:
            raise DataError(
                f"{self.name}: the function gave {count} batches in epoch {epoch + 1}, and steps is {self.steps}; set steps "
                "to the batches of an epoch"
            )

    def check_labels(self, batch: Any) -> None:
        """Refuse labels of a class that neither the sample nor the validation rows have."""
        import numpy as np

        for output, count in self.classes.items():
            y = batch[1]
            labels = np.asarray(y if not output else y[output] if isinstance(y, Mapping) else y[int(output)])
            self.check_range(int(labels.min()), int(labels.max()), count)

    def check_range(self, low: int, high: int, count: int) -> None:
        """Refuse the lowest or highest label of a batch unless there are so many classes."""
        if low < 0 or high >= count:
            raise DataError(
                f"{self.name}: a label is {low if low < 0 else high}, and the first training and the validation rows have "
                f"the classes 0 to {count - 1}: see that the validation rows have every class"
            )


@dataclass(frozen=True, eq=False)
class Read:
    """What was read of a data function's streams.

    Attributes:
        arrays: x_train, y_train (the sample), x_validation, y_validation, and w_train, w_validation with weights.
        warnings: remarks on batches that differ from one reading to the next.
    """

    stream: Stream
    arrays: dict[str, Any]
    warnings: tuple[str, ...]


def are_streams(result: Any) -> bool:
    """Return whether a data function has returned something to read batch by batch."""
    if _kind(result):
        return True
    if isinstance(result, Mapping):
        return any(_kind(result[key]) for key in result if str(key) in SPLITS)
    return isinstance(result, tuple | list) and any(_kind(item) for item in result)


def read(result: Any, name: str, again: Callable[[], Any]) -> Read:
    """Read the sample and the validation rows; `again` calls the data function once more. DataError for other forms."""
    splits, steps = _splits(result, name)
    train, validation = splits["train"], splits["validation"]
    kind = _kind(train)

    def make() -> Any:
        return _splits(again(), name)[0]["train"]

    # First, because every reading of a pipeline may shuffle anew.
    batches = _sample(train, name)
    count = _steps(train, kind, steps, name, make)
    fresh = make()
    is_seeded = _is_same(batches, fresh, name)
    repeats = is_seeded and not _changes(fresh) and _is_same(batches, fresh, name)
    arrays = _joined(batches, name, "train")
    validation_steps = steps.get("validation") if _kind(validation) == "function" else None
    if _kind(validation) == "function" and validation_steps is None:
        raise DataError(f'{name}: validation is a function that gives batches; add "validation_steps": how many')
    given = itertools.islice(_iterated(validation, name), validation_steps)
    arrays |= _joined(_within_memory(given, name), name, "validation")
    warning = (
        f"{name}: the training batches differ each time that the function is called, so another run comes to other values, "
        "and an interrupted trial goes on with other batches; seed what draws them"
    )
    stream = Stream(name, train, kind, count, repeats, is_seeded, make)
    return Read(stream, arrays, () if is_seeded else (warning,))


def _kind(value: Any) -> Any:
    """Return the kind of a stream; "" for anything else."""
    parents = {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(value).__mro__}
    if "tensorflow.DatasetV2" in parents:
        return "tf.data"
    if "keras.PyDataset" in parents:
        return "PyDataset"
    return "function" if inspect.isroutine(value) or (callable(value) and not hasattr(value, "shape")) else ""


def _splits(result: Any, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the streams by split, and the steps of functions by split."""
    if isinstance(result, tuple | list) and len(result) == 2:
        result = {"train": result[0], "validation": result[1]}
    if not isinstance(result, Mapping):
        raise DataError(
            f"{name}: received a {type(result).__name__} alone, which can't be split into training and validation; {_FORM}"
        )
    splits: dict[str, Any] = {}
    steps: dict[str, int] = {}
    for key, value in result.items():
        word, _, ending = str(key).rpartition("_")
        split = SPLITS.get(word or "train") if ending == "steps" or key == "steps" else SPLITS.get(str(key))
        if split is None:
            raise DataError(f"{name}: unknown key {key!r}; {_FORM}")
        if split == "test":
            raise DataError(
                f"{name}: a study never looks at test rows, and those of {key!r} would be read by nothing; leave them out"
            )
        if ending == "steps" or key == "steps":
            if type(value) is not int or value < 1:
                raise DataError(f"{name}: {key} must be a whole number of at least 1; received {value!r}")
            steps[split] = value
        else:
            splits[split] = value
    for split in ("train", "validation"):
        if split not in splits or not _kind(splits[split]):
            what = f"received {type(splits[split]).__name__} for {split}" if split in splits else f"there is no {split}"
            raise DataError(f"{name}: {what}; {_FORM}")
    return splits, steps


def _steps(given: Any, kind: Kind, steps: Mapping[str, int], name: str, make: Callable[[], Any]) -> int:
    """Return the batches of an epoch."""
    if kind == "function":
        if "train" not in steps:
            raise DataError(f'{name}: training is a function that gives batches; add "steps": batches of an epoch')
        return steps["train"]
    if "train" in steps:
        raise DataError(f"{name}: steps is for functions that give batches; a {kind} has its own length: remove it")
    if kind == "PyDataset":
        length = getattr(given, "num_batches", None)
        count = len(given) if length is None else length
    else:
        count = int(given.cardinality())
        if count == -2:  # unknown without reading
            count = sum(1 for _ in make())
    if count is None or count < 0 or count == math.inf:
        raise DataError(f"{name}: the training rows never end; leave out repeat(), or add take(batches of an epoch)")
    if not count:
        raise DataError(f"{name}: there is no training batch")
    return int(count)


def _called(given: Any, epoch: int, name: str) -> Iterator[Any]:
    """Call a function that gives batches; it gets the epoch (from 0) if it has such a parameter."""
    takes = inspect.signature(given).parameters
    batches = given(epoch=epoch) if "epoch" in takes else given()
    if not isinstance(batches, Iterable):
        raise DataError(f"{name}: the function returned {type(batches).__name__}; return an iterator of batches (x, y)")
    return iter(batches)


def _iterated(given: Any, name: str) -> Iterator[Any]:
    """Yield the batches of the first epoch as arrays."""
    kind = _kind(given)
    if kind == "tf.data":
        return iter(given.as_numpy_iterator())
    if kind == "PyDataset":
        return (given[index] for index in range(len(given)))
    return _called(given, 0, name)


def _sample(given: Any, name: str) -> list[Any]:
    batches: list[Any] = []
    rows = 0
    for batch in itertools.islice(_iterated(given, name), _SAMPLE_BATCHES):
        batches.append(_batch(batch, name))
        rows += len(_leaves(batches[-1][0])[0])
        if rows >= _SAMPLE_ROWS:
            break
    if not batches:
        raise DataError(f"{name}: there is no training batch")
    return batches


def _batch(batch: Any, name: str) -> tuple[Any, ...]:
    """Return a batch as (x, y) or (x, y, weights) of arrays."""
    import numpy as np

    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise DataError(
            f"{name}: a batch is a {type(batch).__name__}"
            + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
            + "; give (x, y) or (x, y, weights)"
        )
    made = tuple(_mapped(np.asarray, part) for part in batch)
    leaves = _leaves(made)
    if any(leaf.ndim == 0 for leaf in leaves):
        raise DataError(f"{name}: a batch holds single rows; batch them: dataset.batch(32), say")
    if len({len(leaf) for leaf in leaves}) > 1:
        raise DataError(
            f"{name}: the arrays of a batch have {', '.join(str(len(leaf)) for leaf in leaves)} rows; give as many of each"
        )
    return made


def _mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {str(name): change(item) for name, item in tree.items()}
    return tuple(map(change, tree)) if isinstance(tree, tuple | list) else change(tree)


def _leaves(tree: Any) -> list[Array]:
    if isinstance(tree, Mapping):
        return [leaf for item in tree.values() for leaf in _leaves(item)]
    return [leaf for item in tree for leaf in _leaves(item)] if isinstance(tree, tuple) else [tree]


def _is_same(batches: list[Any], given: Any, name: str) -> bool:
    """Whether the first batches of `given`, read now, are `batches`."""
    import numpy as np

    again = [_batch(batch, name) for batch in itertools.islice(_iterated(given, name), len(batches))]
    one, other = _leaves(tuple(batches)), _leaves(tuple(again))
    return len(one) == len(other) and all(
        a.shape == b.shape and np.array_equal(a, b) for a, b in zip(one, other, strict=True)
    )


def _changes(given: Any) -> bool:
    """Whether a PyDataset changes itself at the end of an epoch."""
    return any(
        "on_epoch_end" in vars(cls) for cls in type(given).__mro__ if cls.__module__.partition(".")[0] != "keras"
    )


def _within_memory(batches: Iterable[Any], name: str) -> list[Any]:
    kept: list[Any] = []
    size = 0
    for batch in batches:
        kept.append(_batch(batch, name))
        size += sum(leaf.nbytes for leaf in _leaves(kept[-1]))
        if size > _LARGEST_VALIDATION:
            raise DataError(
                f"{name}: the validation rows take more than {_LARGEST_VALIDATION / 2**30:.0f} GiB, and they are kept in "
                "memory; give fewer"
            )
    if not kept:
        raise DataError(f"{name}: there is no validation batch")
    return kept


def _joined(batches: list[Any], name: str, split: str) -> dict[str, Any]:
    """Return batches as arrays of all their rows, by the keys of a data function."""
    import numpy as np

    keys = ("x", "y", "w")[: len(batches[0])]
    if any(len(batch) != len(keys) for batch in batches):
        raise DataError(f"{name}: some {split} batches have weights and others none")
    joined = {}
    for number, key in enumerate(keys):
        parts = [batch[number] for batch in batches]
        try:
            if isinstance(parts[0], Mapping):
                value: Any = {item: np.concatenate([part[item] for part in parts]) for item in parts[0]}
            elif isinstance(parts[0], tuple):
                value = tuple(np.concatenate(items) for items in zip(*parts, strict=True))
            else:
                value = np.concatenate(parts)
        except (ValueError, KeyError) as error:
            raise DataError(f"{name}: {split} batches don't go together: {error}; give rows of one shape") from None
        joined[f"{key}_{split}"] = value
    return joined
