"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from driving import Driver


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with Driver() as server:
        yield server
