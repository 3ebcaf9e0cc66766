"""A series that is made here, like the hourly load of a power grid: a daily and a weekly period, the weather, and chance."""

from __future__ import annotations

import numpy as np
import pandas as pd

HOURS = 24 * 7 * 16


def load():
    """Return a table of 16 weeks of hours: `temperature` and `load`, each about 0 with a deviation of about 1."""
    rng = np.random.default_rng(0)
    hours = np.arange(HOURS)
    day, week = np.sin(2 * np.pi * hours / 24), hours // 24 % 7 >= 5
    weather = _slow(rng, 0.98)
    temperature = 0.7 * np.sin(2 * np.pi * (hours - 3) / 24) + weather
    # A cold hour costs more by day than by night, and a week's end less than its days.
    load = day - 0.8 * week - 0.5 * weather * (1 + 0.5 * day) + 0.3 * _slow(rng, 0.7)
    return pd.DataFrame({"temperature": temperature, "load": load})


def _slow(rng, persistence):
    """Return noise of deviation 1 that keeps a share of the hour before."""
    steps = rng.normal(scale=np.sqrt(1 - persistence**2), size=HOURS)
    values = np.empty(HOURS)
    values[0] = rng.normal()
    for hour in range(1, HOURS):
        values[hour] = persistence * values[hour - 1] + steps[hour]
    return values
