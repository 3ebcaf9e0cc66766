"""Take rows for a split out of others: whole groups, or the last rows in order. By chance: `search.data.splits`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.errors import DataError

if TYPE_CHECKING:
    from search.data.parts import Array

# Draws of groups, of which the most even one is taken. A table of groups and classes above this size is not balanced.
_DRAWS = 100
_LARGEST_TABLE = 10**7


def whole_groups(
    index: Array, all_rows: Array, fraction: float, group: Array, labels: Array | None, state: int
) -> tuple[Array, Array]:
    """Take `fraction` of the groups of `all_rows`, at least one; return (remaining, taken) rows of `index`, in its order.

    Of several random draws, the one counts whose rows, and rows of each class, come nearest to `fraction` of `all_rows`; a
    draw that takes every row of a class loses to any that does not.

    Args:
        index: the rows that no other split has taken.
        group: the group of every row of the source.
        labels: the class of every row of the source, int; None for a regression.
    """
    import numpy as np

    _, codes = np.unique(group, return_inverse=True)
    groups, size = np.unique(codes[index]), int(codes.max()) + 1
    count = max(1, round(fraction * len(np.unique(codes[all_rows]))))
    classes = 1 if labels is None else int(labels.max()) + 1
    if size * classes > _LARGEST_TABLE:
        labels, classes = None, 1
    cells = codes * classes + (0 if labels is None else labels)

    def tabulated(rows: Array) -> Array:
        return np.bincount(cells[rows], minlength=size * classes).reshape(size, classes)

    wanted, table = tabulated(all_rows).sum(axis=0) * fraction, tabulated(index)
    present = table.sum(axis=0)
    random = np.random.default_rng(state)
    draws = [random.permutation(groups)[:count] for _ in range(_DRAWS if size * _DRAWS <= _LARGEST_TABLE else 1)]

    def unevenness(draw: Array) -> float:
        rows = table[draw].sum(axis=0)
        emptied = np.count_nonzero((rows > 0) & (rows == present))
        return float(emptied * present.sum() + np.abs(rows - wanted).sum())

    is_taken = np.isin(codes[index], min(draws, key=unevenness))
    return index[~is_taken], index[is_taken]


def last_rows(index: Array, count: int, order: Array, name: str) -> tuple[Array, Array]:
    """Take the last `count` rows in order; return (remaining, taken) rows of `index`, both in order.

    Rows that are equal in order stay together: those at the border are taken too. Raises DataError if fewer than two remain.
    """
    import numpy as np

    ordered = index[np.argsort(order[index], kind="stable")]
    values = order[ordered]
    border = int(np.searchsorted(values, values[max(0, len(ordered) - count)], side="left"))
    if border < 2:
        raise DataError(
            f"{name}: order has too few different values to take the last {count} of {len(ordered)} rows for another split; "
            "give rows of more times, or split them by chance (remove order)",
            key="data.order",
        )
    return ordered[:border], ordered[border:]
