"""What `manyfit run` shows while it works: a live view in a terminal, plain lines elsewhere. All of it goes to stderr."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.core.study import Study
from search.trials.trial import Trial
from search.views.plain import PlainConsole
from search.views.text import duration, number, short, sparkline

REFRESH_S = 0.25
# The live view has at most this many rows of running trials.
MAX_ROWS = 16
_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red"}
# The rate of epochs is measured over this window.
_RATE_WINDOW_S = 20.0
# Events that change how a trial is trained, and how many of them are printed.
_PRINTED_EVENTS = ("program of its own",)
_MAX_EVENTS = 3


def stderr(*, quiet: bool = False) -> Console:
    """Return the console for people; `quiet` drops everything except errors."""
    return PlainConsole(stderr=True, quiet=quiet, soft_wrap=True)


class ConsoleReporter:
    """Prints to stderr what a session does, for people."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        if self._console.is_terminal:
            with self._console.status(Text(what)):
                yield
        else:
            self._console.print(what)
            yield

    def line(self, text: str) -> None:
        self._console.print(Text(text))

    def note(self, text: str) -> None:
        self._console.print(Text.assemble(("note: ", "cyan"), text))

    def warning(self, text: str) -> None:
        self._console.print(Text.assemble(("warning: ", "yellow"), text))

    def following(self, study: Study, *, programs: int) -> Progress:
        return Progress(study, self._console, programs=programs)


class Progress:
    """Prints the progress of a study. Call it after every tick; it draws at most once every REFRESH_S.

    Args:
        programs: how many programs are compiled at most; 0 if none is, or if the number is not known.
    """

    def __init__(self, study: Study, console: Console, *, programs: int = 0) -> None:
        self._study, self._console, self._programs = study, console, programs
        self._epochs_before = sum(len(trial.curve) for trial in study.trials)
        self._ended = {trial.number for trial in study.trials if trial.is_ended}
        self._events_seen = self._events_printed = 0
        self._epochs: deque[tuple[float, int]] = deque()
        self._drawn = 0.0
        self._began, self._ended_before = time.monotonic(), len(self._ended)
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        elif self._programs:
            self._console.print(self._compiling())
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._print_news()
        if self._live:
            self._live.stop()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._drawn < REFRESH_S:
            return
        self._drawn = now
        self._print_news()
        if self._live:
            self._live.update(self._view(), refresh=True)

    def _print_news(self) -> None:
        for event in self._study.noted[self._events_seen :]:
            if event.kind in _PRINTED_EVENTS:
                self._events_printed += 1
                if self._events_printed <= _MAX_EVENTS:
                    more = "; `manyfit show` lists more of them" if self._events_printed == _MAX_EVENTS else ""
                    self._console.print(
                        Text(
                            f"trial {event.detail['trial']} has a {event.kind}: {event.detail['why']}{more}",
                            style="dim",
                        )
                    )
        self._events_seen = len(self._study.noted)
        for trial in self._study.trials:
            if trial.is_ended and trial.number not in self._ended:
                self._ended.add(trial.number)
                self._console.print(self._line(trial))

    def _line(self, trial: Trial) -> Text:
        best = self._study.best
        line = Text(f"trial {trial.number:>3}  ")
        line.append(f"{number(trial.value):>9}  ", style="bold" if best is trial else "")
        line.append(f"{trial.ended}", style=_STYLES.get(trial.state, ""))
        line.append(f" at epoch {len(trial.curve)}" if trial.ended in ("pruned", "stopped early") else "")
        line.append(f" ({trial.why})" if trial.state in ("PRUNED", "FAIL") and trial.why else "", style="dim")
        if best is trial:
            line.append("  best so far", style="bold green")
        return line

    def _view(self) -> RenderableType:
        study, settings = self._study, self._study.file.settings
        ended = len(self._ended)
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=study.budget, completed=ended, width=20, complete_style="cyan", finished_style="cyan")
        head.add_row(Text(study.file.name, style="bold"), f"{ended} of {study.budget} trials", bar, self.best_text())
        # On a second line: a single line would be folded in a terminal of 80 columns.
        below = Text(f"{self.pace()}, {self.time_left(ended)}", style="dim")
        rows = Table.grid(padding=(0, 2))
        running = study.running
        for trial in running[:MAX_ROWS]:
            objective = [metrics.get(settings.study.objective) for metrics in trial.curve]
            params = ", ".join(f"{name} {short(value)}" for name, value in trial.params.items())
            rows.add_row(
                f"trial {trial.number}",
                f"epoch {len(trial.curve)}/{trial.epochs}",
                number(objective[-1] if objective else None),
                Text(sparkline(objective), style="cyan"),
                Text(params, style="dim", overflow="ellipsis", no_wrap=True),
            )
        more = len(running) - MAX_ROWS
        return Group(Text(), head, below, rows, Text(f"and {more} more", style="dim") if more > 0 else Text())

    def best_text(self) -> Text:
        """Return the best value so far, and whose it is."""
        from search.views import standing

        best = self._study.best
        if better := standing.ahead(self._study.trials, self._study.file.direction, [best] if best else []):
            return Text(f"best so far {standing.so_far(better[0])}", style="bold yellow")
        if best is None:
            return Text("no epoch yet", style="dim")
        return Text(f"best {number(best.value)} (trial {best.number})", style="bold green")

    def pace(self) -> str:
        """Return the rate of epochs, or why there was none lately: a program is compiled when a trial first needs it."""
        rate = self._rate()
        if rate:
            return f"{rate:.1f} epochs/s"
        if self._programs > self._study.compiled:
            return self._compiling()
        has_begun = sum(len(trial.curve) for trial in self._study.trials) > self._epochs_before
        return "no epoch lately" if has_begun else "first epochs under way"

    def _compiling(self) -> str:
        return f"compiling program {min(self._study.compiled + 1, self._programs)} of {self._programs}"

    def _rate(self) -> float:
        now = time.monotonic()
        self._epochs.append((now, sum(len(trial.curve) for trial in self._study.trials)))
        while now - self._epochs[0][0] > _RATE_WINDOW_S:
            self._epochs.popleft()
        (start, before), (_, epochs) = self._epochs[0], self._epochs[-1]
        return (epochs - before) / (now - start) if now > start else 0.0

    def time_left(self, ended: int) -> str:
        """Return the estimated time until the end, with `ended` trials ended."""
        done = ended - self._ended_before
        limits = []
        if done:
            limits.append((time.monotonic() - self._began) / done * (self._study.budget - ended))
        if self._study.file.settings.study.time is not None:
            limits.append(max(0.0, self._study.file.settings.study.time - self._study.seconds))
        return f"about {duration(min(limits))} left" if limits else "time left: not known yet"
