"""Which rows of a study a worker trains on, and which it judges models by, when its search is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from search.data.stored_images import StoredImages
from search.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search.data.choosing import Chosen
    from search.data.parts import Array
    from search.data.several import Bundle

Use = Literal["study", "train", "test", "full"]
"""What the rows are for.

"study": train on the training rows, and judge by the validation rows, as a search does. "train" and "test": judge by those
rows. "full": train on the training and the validation rows.
"""


def judged_by(use: Use) -> str:
    """Return the split whose rows judge models."""
    return use if use in ("train", "test") else "validation"


def check_use(use: Use, bundle: Bundle, chosen: Chosen) -> None:
    """Raise DataError for rows that the data do not have, or that a study does not keep in memory."""
    if use == "test" and not ("test" in chosen.rows and len(chosen.rows["test"][1])):
        raise DataError(
            f"{bundle.name}: there are no test rows: the source has none of its own, and test = 0 under [data] keeps none "
            "back",
            key="data.test",
        )
    if use in ("train", "full") and bundle.stream is not None:
        raise DataError(
            f"{bundle.name}: the training rows come in batches, and are not in memory; only the validation rows can be used"
            + (" so" if use == "train" else ", and by themselves")
        )


def in_memory(x: Array) -> Array:
    """Return rows as an array: images that stay in their files are decoded."""
    stored: Any = x
    return stored[:] if isinstance(stored, StoredImages) else x


def training(by_split: Mapping[str, Array], use: Use) -> Array:
    """Return the rows to train on."""
    if use != "full":
        return by_split["train"]
    import numpy as np

    return np.concatenate([in_memory(by_split["train"]), in_memory(by_split["validation"])])
