"""A table with columns of every kind, for tests of encodings."""

import numpy as np
import pandas as pd


def rows_of(count: int, seed: int) -> pd.DataFrame:
    """Make a table with columns of every kind, blanks, and a target that depends on them."""
    rng = np.random.default_rng(seed)
    at = pd.Series(pd.to_datetime(rng.integers(14 * 10**8, 17 * 10**8, count), unit="s"))
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, count).round(1),
            "in/come": rng.lognormal(8, 1, count).round(2),
            "plan": rng.choice(["free", "pro", "Ünlimited plan", "?"], count),
            "zip": rng.choice([123, 456, 90210], count),
            "member": rng.choice([True, False], count),
            "sign up": at.dt.strftime("%Y-%m-%d %H:%M"),
            "born": at.dt.strftime("%d/%m/%Y"),
            "note": [" ".join(rng.choice(["Good", "bad,", "very", "the", "day!", "it's"], 6)) for _ in range(count)],
        }
    )
    score = (frame["age"] - 40) / 10 + frame["plan"].eq("pro") + frame["note"].str.contains("Good") - 1
    frame["churn"] = np.where(score + rng.normal(0, 0.3, count) > 0, "yes", "no")
    frame.loc[rng.random(count) < 0.1, "age"] = np.nan
    frame.loc[rng.random(count) < 0.1, ["plan", "sign up"]] = ""
    frame["part"] = rng.choice(["train", "validation", "test"], count, p=[0.6, 0.3, 0.1])
    return frame
