"""Windows over a series: rows of features in a row, and the target some steps after them.

No window reaches over a border of splits, over the end of a group, or over a row that belongs to another split.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search.data.parts import Part, Parts
from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array
    from search.spec.settings import DataSection

# The role of a row's place in its series: 0, 1, 2 ... in order, with a gap between two groups.
POSITION = "position"
_LARGEST = 8 * 2**30
# A step this much longer than the usual one is a gap. Months differ by less.
_GAP = 1.5


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one split.

    Attributes:
        origin: the split of the source that the rows are of.
        rows: row numbers in order.
        starts: index into `rows` of the first row of each window; the rows of a window follow each other.
        window, horizon: the number of rows, and of steps from the last one to the target.
    """

    origin: str
    rows: Array
    starts: Array
    window: int
    horizon: int

    @property
    def targets(self) -> Array:
        """Return the row number of the target of each window."""
        rows: Array = self.rows[self.starts + self.window - 1 + self.horizon]
        return rows

    def features(self, x: Array) -> Array:
        """Return (windows, window, features ...) of the features of all rows of the origin."""
        import numpy as np

        if not len(self.starts):
            return np.empty((0, self.window, *x.shape[1:]), x.dtype)
        views = np.lib.stride_tricks.sliding_window_view(x[self.rows], self.window, axis=0)
        return np.ascontiguousarray(np.moveaxis(views, -1, 1)[self.starts])


def is_panel(roles: Mapping[str, Array]) -> bool:
    """Return whether rows are of several series over the same time, which are all cut at one time."""
    return {"group", "order", POSITION} <= set(roles)


def in_order(parts: Parts, section: DataSection) -> Parts:
    """Return the parts with the role POSITION, and a warning for steps that differ; no windows: unchanged.

    Rows are in the order of the role "order", or else of the source; each group is a series of its own. Raises DataError for
    two rows of one series at one time.
    """
    if section.window is None:
        return parts
    splits, warnings = {}, list(parts.warnings)
    for split, part in parts.splits.items():
        position, warning = _position(part)
        splits[split] = replace(part, roles={**part.roles, POSITION: position})
        warnings += [f"{parts.name}: {warning}"] if warning else []
    return replace(parts, splits=splits, warnings=tuple(warnings))


def _position(part: Part) -> tuple[Array, str]:
    """Return the position of every row, and a warning for gaps in the order or ""."""
    import numpy as np

    count = len(part.x)
    given = part.roles.get("order")
    order = np.arange(count) if given is None else given
    group = (
        np.unique(part.roles["group"], return_inverse=True)[1] if "group" in part.roles else np.zeros(count, np.int64)
    )
    by_time = np.lexsort((order, group))
    position = np.empty(count, np.int64)
    position[by_time] = np.arange(count) + group[by_time]
    if given is None or count < 2:
        return position, ""
    is_next = np.diff(group[by_time]) == 0
    # Nanoseconds as whole numbers have more digits than a float.
    times = order[by_time].astype(np.int64) if order.dtype.kind == "M" else order[by_time]
    steps = np.diff(times)[is_next]
    ends = by_time[1:][is_next]
    if (twins := steps == 0).any():
        row = int(ends[twins.argmax()])
        raise DataError(
            f"{part.place(row)}: two rows of one series are equal in order ({_shown(order[row])}); remove one, or name the "
            "column that tells the series apart as group",
            key="data.order",
        )
    usual = float(np.median(steps)) if len(steps) else 0.0
    gaps = steps > _GAP * usual
    if not gaps.any():
        return position, ""
    row = int(ends[gaps.argmax()])
    return position, (
        f"{int(gaps.sum())} of {len(steps)} steps in order are longer than the usual one, the first before {part.place(row)} "
        f"({_shown(order[row])}); windows count rows, not time"
    )


def _shown(value: Any) -> str:
    import numpy as np

    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[s]")).removesuffix("T00:00:00")
    return f"{value:g}"


def cut(parts: Parts, section: DataSection, rows: Mapping[str, tuple[str, Array]], seed: int) -> dict[str, Windows]:
    """Return the windows of each split; DataError for a split that is too short for one, or for windows too many to hold.

    `section.limit` keeps as many windows of training and validation together, by chance.
    """
    import numpy as np

    if section.window is None:
        return {}
    span = section.window + section.horizon
    windows = {}
    for split, (origin, index) in rows.items():
        position = parts.splits[origin].roles[POSITION]
        ordered = index[np.argsort(position[index], kind="stable")]
        starts = np.array(list(_starts(position[ordered], span, section.stride)), dtype=np.int64)
        if not len(starts):
            raise DataError(
                f"{parts.name}: the {len(index)} {split} rows hold no {section.window} rows in a row with a target "
                f"{section.horizon} after them; use a shorter window, or make {split} longer (more rows, another share)"
            )
        windows[split] = Windows(origin, ordered, starts, section.window, section.horizon)
    if section.limit is not None:
        windows |= _limited(windows, section.limit, seed)
    train = parts.splits["train"]
    if train.encodable is None:
        # Once in the source's type and once in float32.
        check_size(windows, train.x.shape[1:], train.x.dtype.itemsize + 4, parts.name)
    return windows


def of_groups(parts: Parts, windows: Mapping[str, Windows]) -> Iterator[str]:
    """Yield warnings on groups that are too short for a window in their split, and on those that no training row is of."""
    import numpy as np

    if not windows or "group" not in parts.splits["train"].roles:
        return
    groups = {split: parts.splits[each.origin].roles["group"] for split, each in windows.items()}
    trained = np.unique(groups["train"][windows["train"].rows])
    for split, each in windows.items():
        there = np.unique(groups[split][each.rows])
        without = np.setdiff1d(there, groups[split][each.rows[each.starts]])
        if len(without):
            yield (
                f"{parts.name}: {len(without)} of {len(there)} groups have no window in {split}, {without[0].item()!r} for "
                f"one: fewer than {each.window + each.horizon} rows in a row"
            )
        if is_panel(parts.splits["train"].roles) and len(new := np.setdiff1d(there, trained)):
            yield (
                f"{parts.name}: {len(new)} of {len(there)} groups of {split} have no training row, {new[0].item()!r} for one"
            )


def _starts(position: Array, span: int, stride: int) -> Iterator[int]:
    """Yield the index of the first row of every window: each `stride`-th of a run of rows that follow each other."""
    import numpy as np

    borders = [0, *(np.flatnonzero(np.diff(position) != 1) + 1).tolist(), len(position)]
    for first, end in itertools.pairwise(borders):
        yield from range(first, end - span + 1, stride)


def _limited(windows: Mapping[str, Windows], limit: int, seed: int) -> dict[str, Windows]:
    import numpy as np

    counts = {split: len(windows[split].starts) for split in ("validation", "train")}
    total = sum(counts.values())
    if total <= limit:
        return {}
    random = np.random.default_rng([seed, 7])
    validation = max(1, round(limit * counts["validation"] / total))
    kept = {}
    for split, count in (("validation", validation), ("train", max(1, limit - validation))):
        chosen = np.sort(random.choice(counts[split], count, replace=False))
        kept[split] = replace(windows[split], starts=windows[split].starts[chosen])
    return kept


def check_size(windows: Mapping[str, Windows], shape: tuple[int, ...], row_bytes: int, name: str) -> None:
    """Raise DataError if windows of rows of this shape, `row_bytes` for each number, take too much memory."""
    import numpy as np

    count = sum(len(each.starts) for each in windows.values())
    whole = (next(iter(windows.values())).window, *shape)
    size = count * int(np.prod(whole)) * row_bytes
    if size > _LARGEST:
        raise DataError(
            f"{name}: {count} windows of the shape {whole} need {size / 2**30:.0f} GiB; use a larger stride, a shorter "
            "window or a limit"
        )
