"""Makes flats.csv, a table like those of a letting agency: numbers, categories, dates, texts, and blanks.

`python studies/tables/flats.py` writes it again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 600
DISTRICTS = {"Old Town": 1.25, "Harbour": 1.15, "North": 0.9, "Hill": 1.1, "Station": 0.8, "Meadows": 0.95}
GOOD = ("bright rooms with large windows", "newly renovated kitchen and bath", "quiet courtyard with old trees")
PLAIN = ("close to shops and schools", "cellar and bicycle room in the house", "third floor without a lift")
BAD = ("needs some repairs before moving in", "on a busy street with trams", "small windows to the north")


def make():
    """Return the table; `demand` is how many people asked for the flat, in three classes."""
    rng = np.random.default_rng(0)
    district = rng.choice(list(DISTRICTS), ROWS)
    size = np.round(rng.gamma(6, 12, ROWS) + 18)
    rooms = np.clip(np.round(size / 28 + rng.normal(0, 0.4, ROWS)), 1, 7)
    built = rng.integers(1890, 2024, ROWS).astype(float)
    free = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 366, ROWS), unit="D")
    parts = [*GOOD, *PLAIN, *BAD]
    said = np.array([rng.permutation(len(parts))[:2] for _ in range(ROWS)])
    quality = (said < 3).sum(axis=1) - (said >= 6).sum(axis=1)
    liked = np.array([DISTRICTS[name] for name in district])
    dear = rng.normal(0, 0.2, ROWS)
    rent = np.round(size * 14 * liked * np.exp(dear) / 10) * 10
    # People ask for what is cheap, for what reads well, and in early autumn, when students come.
    asked = -3 * dear + 4 * (liked - 1) + 0.6 * quality + 0.8 * np.isin(free.month, (8, 9, 10)) - 0.01 * (size - 90)
    asked += rng.normal(0, 0.3, ROWS)
    low, high = np.quantile(asked, [0.4, 0.75])
    table = pd.DataFrame(
        {
            "size": size,
            "rooms": rooms.astype(int),
            "built": built,
            "district": district,
            "pets": rng.choice(["yes", "no", "by agreement"], ROWS),
            "free_from": free.strftime("%Y-%m-%d"),
            "description": [f"{parts[a]}, {parts[b]}" for a, b in said],
            "rent": rent,
            "demand": np.select([asked < low, asked < high], ["low", "medium"], "high"),
        }
    )
    table.loc[rng.random(ROWS) < 0.15, "built"] = np.nan
    table.loc[rng.random(ROWS) < 0.1, "pets"] = None
    return table


if __name__ == "__main__":
    make().to_csv(Path(__file__).with_name("flats.csv"), index=False)
