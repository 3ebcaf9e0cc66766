"""A range test tells at which learning rates a loss falls and rises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from search.checking import learning_rate
from search.checking.learning_rate import RATES, judged
from spaces import Space

STEPS = 1000


def losses(falls: float, lowest: float, blows: float = math.inf, *, noise: float = 0.02) -> np.ndarray:
    """Return losses that fall from 2.3 to 0.3 between two rates, and rise from a third on."""
    share = np.clip((np.log(RATES) - math.log(falls)) / (math.log(lowest) - math.log(falls)), 0, 1)
    curve = 2.3 - 2 * share + noise * np.random.default_rng(0).normal(size=len(RATES))
    return np.where(blows <= RATES, 50.0, curve)


def level(space: dict, curve: np.ndarray, config: float = 0.01, steps: int = STEPS) -> str:
    return learning_rate.finding(judged(curve), Space.parse(space), config, steps).level


def test_rates_are_found_where_the_loss_falls_and_rises():
    test = judged(losses(1e-3, 1e-1, 0.5))
    assert 1e-3 < test.falls_from < 1e-2
    assert 0.05 < test.lowest_at < 0.5
    assert 0.4 < test.blows_from < 1
    assert test.falls_from < test.rate < test.lowest_at


def test_noise_is_no_fall():
    assert judged(losses(1e3, 1e4, noise=0.3)).falls_from is None
    assert judged(np.array([2.3, 2.3, math.nan])).rate is None


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"low": 1e-4, "high": 1e-1, "log": True}, "ok"),
        ({"low": 1e-3, "high": 1.0, "log": True}, "ok"),
        ({"low": 1e-7, "high": 1e-5, "log": True}, "look"),
        ({"low": 1.0, "high": 10.0, "log": True}, "look"),
        ({"low": 0.2, "high": 10.0, "log": True}, "look"),
        ([0.01, 0.1], "ok"),
        ([1e-6, 1e-5], "look"),
    ],
)
def test_range_of_a_space_is_judged_by_the_curve(rates, expected):
    assert level({"learning_rate": rates}, losses(1e-3, 1e-1, 0.5)) == expected


def test_rate_of_a_config_is_judged_where_no_rate_is_searched():
    space, curve = {"dropout": [0.0, 0.5]}, losses(1e-3, 1e-1, 0.5)
    assert level(space, curve) == "ok"
    assert level(space, curve, config=1e-7) == "look"
    assert level(space, curve, config=5.0) == "look"


def test_many_steps_make_up_for_a_low_rate():
    space, curve = {"learning_rate": [1e-5, 2e-5]}, losses(1e-3, 1e-1)
    assert (level(space, curve, steps=500), level(space, curve, steps=100_000)) == ("look", "ok")


def test_model_that_learns_at_no_rate_needs_a_look():
    found = learning_rate.finding(judged(losses(1e3, 1e4)), Space.parse({"lr": [0.01, 0.1]}), 0.01, STEPS)
    assert found.level == "look"
    assert "at no learning rate" in found.text
