"""Grid, random and Bayesian search with equal budgets: run the three studies beside this file with several seeds.

python studies/samplers/race.py --seeds 5
All studies are in race.db beside this file; what is finished there is not trained again. Draws race-best.png and
race-tried.png (docs/gallery.md has them; kaleido and a Chrome or Chromium make them) and prints a table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

import manyfit as mf

HERE = Path(__file__).parent
SAMPLERS = ("grid", "random", "bayes")
COLORS = dict(
    zip(SAMPLERS, ("#D55E00", "#0072B2", "#009E73"), strict=True)
)  # of Okabe and Ito: told apart by colour-blind people, too


def main() -> None:
    """Run what is missing, then draw and print."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Example: python studies/samplers/race.py --seeds 5"
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many studies of each sampler; 5 if not given")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as for manyfit run, for all studies"
    )
    parser.add_argument(
        "--output", "-o", type=Path, default=HERE, metavar="FOLDER", help="where race.db and the pictures go"
    )
    args = parser.parse_args()
    database = args.output.resolve() / "race.db"
    trials = {name: [run(name, seed, database, args.set) for seed in range(args.seeds)] for name in SAMPLERS}
    best_so_far(trials).write_image(args.output / "race-best.png", width=800, height=420, scale=1.5)
    tried(trials).write_image(args.output / "race-tried.png", width=1000, height=380, scale=1.5)
    print(table(trials).to_string())


def run(sampler: str, seed: int, database: Path, settings: list[str]) -> pd.DataFrame:
    """One study, to its end; returns its trials in the order in which they began."""
    name = f"{sampler}-{seed}"
    own = [f"study.seed={seed}", f"run.storage=sqlite:///{database}", *settings]
    command = [sys.executable, "-m", "manyfit", "run", str(HERE / f"{sampler}.toml"), "--name", name]
    subprocess.run(
        [*command, *(part for setting in own for part in ("--set", setting))], check=True, stdout=subprocess.DEVNULL
    )
    return mf.load(database, name=name).trials.sort_values("trial")


def best_so_far(trials: dict[str, list[pd.DataFrame]]) -> go.Figure:
    """The best value by the number of trials: the median of the seeds, and from the least to the greatest."""
    figure = go.Figure()
    for name, studies in trials.items():
        curves = np.array([np.fmin.accumulate(study["value"].to_numpy()) for study in studies])
        numbers = np.arange(1, curves.shape[1] + 1)
        around = {"x": np.r_[numbers, numbers[::-1]], "y": np.r_[curves.max(0), curves.min(0)[::-1]]}
        figure.add_scatter(
            **around,
            fill="toself",
            fillcolor=COLORS[name],
            opacity=0.15,
            line={"width": 0},
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=numbers, y=np.median(curves, axis=0), name=name, line={"color": COLORS[name], "width": 2.5}
        )
    figure.update_layout(
        template="simple_white", title="Best loss so far: median and range of the seeds", margin={"t": 50, "b": 45}
    )
    figure.update_xaxes(title="trials")
    figure.update_yaxes(title="validation loss", type="log", dtick="D1")
    return figure


def tried(trials: dict[str, list[pd.DataFrame]]) -> go.Figure:
    """What the first study of each sampler tried of the two parameters that matter most; its learning rates are marked."""
    figure = make_subplots(1, len(trials), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles(trials))
    worst = max(float(study["value"].quantile(0.6)) for study, *_ in trials.values())
    least = min(float(study["value"].min()) for study, *_ in trials.values())
    for column, (study, *_) in enumerate(trials.values(), 1):
        shown = study.sort_values("value", ascending=False)  # the best ones on top
        rates, momenta = shown["params.learning_rate"], shown["params.momentum"]
        scale = {
            "color": np.log10(shown["value"].clip(upper=worst)),
            "cmin": np.log10(least),
            "cmax": np.log10(worst),
            "colorscale": "Viridis",
        }
        bar = {
            "title": "loss",
            "tickvals": (ticks := np.log10([least, (least * worst) ** 0.5, worst])),
            "ticktext": [f"{10**t:.2f}" for t in ticks],
        }
        figure.add_scatter(
            x=rates,
            y=momenta,
            mode="markers",
            row=1,
            col=column,
            showlegend=False,
            marker={**scale, "size": 8, "showscale": column == 1, "colorbar": bar},
        )
        figure.add_scatter(
            x=rates,
            y=[-0.12] * len(rates),
            mode="markers",
            row=1,
            col=column,
            showlegend=False,
            marker={"symbol": "line-ns-open", "color": "black", "size": 9},
        )
    figure.update_xaxes(title="learning rate", type="log", dtick=1)
    figure.update_yaxes(title="momentum", row=1, col=1)
    figure.update_layout(template="simple_white", margin={"t": 50, "b": 45})
    return figure


def titles(trials: dict[str, list[pd.DataFrame]]) -> list[str]:
    """Each sampler with how many learning rates it tried."""
    return [f"{name}: {study['params.learning_rate'].nunique()} learning rates" for name, (study, *_) in trials.items()]


def table(trials: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """For each sampler: mean and sd of the best values, and after how many trials the mean of random search was reached."""
    best = {name: np.array([study["value"].min() for study in studies]) for name, studies in trials.items()}
    goal = best["random"].mean()
    rows = {}
    for name, studies in trials.items():
        reached = [first_below(study["value"].to_numpy(), goal) for study in studies]
        found = [number for number in reached if number is not None]
        rows[name] = {
            "best, mean": best[name].mean().round(4),
            "sd": best[name].std(ddof=1).round(4) if len(studies) > 1 else None,
            f"studies that reach {goal:.4f}": f"{len(found)} of {len(studies)}",
            "after trials, median": np.median(found) if found else None,
        }
    return pd.DataFrame(rows).T


def first_below(values: np.ndarray, goal: float) -> int | None:
    """The number of trials, from 1, after which the best value is at most `goal`."""
    reached = np.flatnonzero(values <= goal)
    return int(reached[0]) + 1 if len(reached) else None


if __name__ == "__main__":
    main()
