"""Claim: for the price of 60 full trainings manyfit's default search finds better than the best of 1,500 random ones.

n: 12 tasks of LCBench x 5 seeds for each search. Hardware: any, for nothing is trained; only milliseconds depend on it.

Run: `.venv/bin/python benchmarks/quality.py`; `--help` tells the options. `make bench` plays the small part of it that needs
nothing but this repository: the recorded curves of tests/assets/digits-curves.json.

Searches are played on recorded curves (curves.py tells which, and the form of files with your own) by the replay engine:
manyfit's own loop, study, samplers, pruners and store at work, with curves in place of training. Everyone has the same
budget of epochs, whatever trials they are of. *Regret* is how far the best objective found so far, in any epoch of any trial,
is from the best that 1,500 random configs have at the last epoch, in units of that best less their median.

Optuna's samplers are named with a halving of { first_rung = 3, eta = 3 }, as in the comparisons that were published on these
curves; `bayes` is manyfit's default, sampler and pruner, with no option set. A search of your own is SAMPLER+PRUNER, options
after a colon: `bayes+none`, `tpe:multivariate=true+halving:first_rung=6,eta=4`.

With `--out` each run is kept as soon as it has ended, and the same command goes on from there: after an interruption, with
more seeds, with one more search. Runs of a manyfit that has changed meanwhile are not known as such: name a new file then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path

import curves
import drawing
import measuring
import ranking
from curves import Task, open_task
from ledger import Ledger
from measuring import at_least_one
from playing import SEARCHES, Match, Played, Search, parse_search, play
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from search.errors import ManyfitError, UsageError
from search.registry import STORAGES
from spaces import Space

TRAININGS = 60
# There is one process per core, so more threads would only slow each other down.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


# -- tasks, searches and matches ---------------------------------------------------------------------------


def tasks_of(options: argparse.Namespace) -> list[Task]:
    """Return the tasks of the command line, each once. UsageError if one is missing, or two have the same name."""
    names: Sequence[str] = options.tasks or (() if options.curves else ("tuned",))
    chosen: list[str | Path] = []
    for name in names:
        if name == "tuned":
            chosen += curves.TUNED
        elif name == "check":
            chosen += [task for task in curves.lcbench_names() if task not in curves.TUNED]
        else:
            chosen.append(name)
    tasks = [open_task(source) for source in dict.fromkeys([*chosen, *options.curves])]
    by_name: dict[str, Task] = {}
    for task in tasks:
        if task.name in by_name:
            raise UsageError(f"two tasks are called {task.name!r}; give one of the files another name")
        by_name[task.name] = task
    return tasks


def searches_of(options: argparse.Namespace, tasks: Sequence[Task], progress: Console) -> list[Search]:
    """Return the searches of the command line; those whose package is missing are reported and left out."""
    wanted = [parse_search(text) for text in options.searches] or list(SEARCHES)
    searches = []
    for search in {search.title: search for search in wanted}.values():
        if search.missing:
            progress.print(f"skipped: {search.title}; to play it: {search.missing}")
            continue
        for task in tasks:
            search.check(Space.parse(task.space), task.epochs)
        searches.append(search)
    if not searches:
        raise UsageError("no search is left to play")
    return searches


def matches_of(options: argparse.Namespace, tasks: Sequence[Task], searches: Sequence[Search]) -> Iterator[Match]:
    """Yield all matches: all those of one seed before those of the next."""
    for seed, lanes, search, task in product(range(options.seeds), options.lanes, searches, tasks):
        yield Match(task.name, search.title, lanes, seed, options.budget * task.epochs)


# -- playing -----------------------------------------------------------------------------------------------


def play_all(
    matches: Sequence[Match],
    tasks: Mapping[str, Task],
    searches: Mapping[str, Search],
    ledger: Ledger,
    options: argparse.Namespace,
    progress: Console,
) -> None:
    """Play the matches that are not in the ledger, in parallel processes; an interruption keeps all that have ended."""
    left = [match for match in matches if match not in ledger]
    if len(left) < len(matches):
        progress.print(f"{len(matches) - len(left)} of {len(matches)} were played before")
    if not left:
        return
    os.environ.update(ONE_THREAD)  # before the processes start: they read it when they import NumPy
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(options.jobs, len(left)), mp_context=context, initializer=_end_at_once)
    line = Progress(
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=progress,
        transient=True,
    )
    try:
        with line:
            shown = line.add_task("", total=len(left))
            waiting: dict[Future[Played], Match] = {
                pool.submit(_play, tasks[match.task].source, searches[match.search], match, options.storage): match
                for match in left
            }
            for future in as_completed(waiting):
                ledger.add(future.result())
                match = waiting[future]
                ended = f"{match.search} on {match.task}, {match.lanes} lanes, seed {match.seed}"
                line.update(shown, advance=1, description=ended)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _play(source: str | Path, search: Search, match: Match, storage: str) -> Played:
    """Open the task in this process, if it is not open yet, and play a match."""
    return play(open_task(source), search, match, storage)


def _end_at_once() -> None:
    """Let Ctrl-C end a process of the pool without a traceback; the parent process prints the message."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# -- reporting ---------------------------------------------------------------------------------------------


def report(played: Sequence[Played], options: argparse.Namespace, tasks: Sequence[Task]) -> None:
    """Print a table per number of lanes and notes on the figures, and draw the picture."""
    console = Console(highlight=False, width=160)
    console.print(measuring.heading(measuring.hardware(), measuring.versions()))
    standings = []
    what = tasks[0].name if len(tasks) == 1 else f"{len(tasks)} tasks"
    runs = f"{what} x {options.seeds} seed{'s' * (options.seeds > 1)}, {options.budget} full trainings' epochs each"
    for lanes in options.lanes:
        standings = ranking.standings([run for run in played if run.match.lanes == lanes])
        console.print(ranking.table(standings, f"{lanes} {'lanes' if lanes > 1 else 'lane'}: {runs}"))
    for note in ranking.notes(standings):
        console.print(note)
    if options.picture:
        drawing.draw(played, options.picture, f"{runs}; 0 is the best of 1,500 random full trainings, 1 their median")
        console.print(f"drawn: {options.picture}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    named = ", ".join(repr(search.title) for search in SEARCHES)
    parser.add_argument(
        "searches", nargs="*", metavar="SEARCH", help=f"{named}, or SAMPLER+PRUNER (default: these {len(SEARCHES)})"
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="of LCBench: their names, tuned (the default, 12 tasks) or check (the other 22)",
    )
    parser.add_argument("--curves", nargs="+", type=Path, default=[], metavar="FILE", help="tasks in curve files")
    parser.add_argument(
        "--lanes", nargs="+", type=at_least_one, default=[16], metavar="N", help="trials at a time (default 16)"
    )
    parser.add_argument("--seeds", type=at_least_one, default=5, metavar="N", help="runs on each task (default 5)")
    parser.add_argument(
        "--budget",
        type=at_least_one,
        default=TRAININGS,
        metavar="N",
        help=f"as many epochs as N full trainings have (default {TRAININGS})",
    )
    parser.add_argument(
        "--storage", choices=list(STORAGES), default="memory", help="sqlite: manyfit's own store at work, too"
    )
    parser.add_argument(
        "--jobs", type=at_least_one, default=os.cpu_count(), metavar="N", help="processes (default: one a core)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.jsonl", help="append each run to it, and go on from what it has"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help=f"draw regret over epochs: {', '.join(drawing.SUFFIXES)}"
    )
    options = parser.parse_args()
    options.lanes = list(dict.fromkeys(options.lanes))
    return options


def run(options: argparse.Namespace) -> None:
    """Play the matches of the command line and report the results."""
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    if options.picture:
        drawing.check(options.picture)
    tasks = tasks_of(options)
    searches = searches_of(options, tasks, progress)
    matches = list(matches_of(options, tasks, searches))
    ledger = Ledger(options.out)
    for task in tasks:
        ledger.check(matches, task.name, task.best, task.median)
    by_name, by_title = {task.name: task for task in tasks}, {search.title: search for search in searches}
    play_all(matches, by_name, by_title, ledger, options, progress)
    report([ledger[match] for match in matches], options, tasks)


def main() -> None:
    """Run the benchmark; on an error, print one line and exit with its code."""
    options = parse()
    try:
        run(options)
    except ManyfitError as error:
        print(f"quality: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("quality: stopped" + ("; the same command goes on" if options.out else ""), file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
