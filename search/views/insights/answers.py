"""What a tuner asks first: is it still improving, by how much over the start config, what matters, what next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import ManyfitError
from search.reading import studyfile
from search.trials.history import History
from search.views import confirmed, learned, listing
from search.views.insights import edges, gap, importance, progress, spending
from search.views.insights.importance import Matter

if TYPE_CHECKING:
    from search.policies.samplers.bayes import Outlook
    from search.storage.studies import Stored

# If the best epoch of the best trial lies in this last share of its epochs, longer trials may be better.
_LAST_EPOCHS = 0.1
# More failed trials than this share are worth a look.
_MANY_FAILED = 0.1


@dataclass(frozen=True)
class Answers:
    """The answers to the four questions, in sentences, and what they rest on.

    Attributes:
        matters: what is known of each parameter; `outlook` is what the default sampler has learned, if it is the sampler.
        edges: the parameters whose best values lie at an end of their range, those without an effect left out.
    """

    improving: str
    is_improving: bool | None
    gain: str
    what_matters: tuple[str, ...]
    next: tuple[str, ...]
    matters: tuple[Matter, ...]
    edges: tuple[edges.Edge, ...]
    outlook: Outlook | None

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The question and the answer, line by line."""
        return [
            ("improving", self.improving),
            ("gain", self.gain),
            *(("matters" if k == 0 else "", text) for k, text in enumerate(self.what_matters)),
            *(("next" if k == 0 else "", text) for k, text in enumerate(self.next)),
        ]


def answers(stored: Stored) -> Answers:
    """Return the answers of a study as it is now."""
    outlook = learned.outlook(stored)
    known = importance.matters(stored, outlook)
    without_effect = {one.name for one in known if one.verdict == "no effect seen"}
    at_edges = tuple(edge for edge in edges.edges(stored) if edge.name not in without_effect)
    is_improving = progress.progress(stored).is_improving
    return Answers(
        progress.line(stored),
        is_improving,
        progress.gain_line(stored),
        tuple(importance.answer(stored, known)) if stored.complete else ("not known before a trial is trained fully",),
        tuple(_next(stored, at_edges, is_improving=is_improving)),
        tuple(known),
        at_edges,
        outlook,
    )


def to_json(stored: Stored, answered: Answers) -> dict[str, Any]:
    """Return what a report says, as plain JSON."""
    done, best = progress.progress(stored), next(iter(stored.complete), None)
    return {
        "is_improving": answered.is_improving,
        "answers": [{"question": question, "answer": answer} for question, answer in answered.lines],
        "steps": [asdict(step) for step in done.steps],
        "ended": {"trials": done.ended, "epochs": done.epochs, "seconds": done.seconds},
        "matters": [asdict(one) for one in answered.matters],
        "edges": [{**asdict(edge), "text": edge.text, "advice": edge.advice} for edge in answered.edges],
        "gap": {"trial": best.number, "epoch": best.best_epoch, "line": gap.line(stored)} if best else None,
        "gaps": [asdict(one) for one in gap.gaps(best)] if best else [],
        "endings": [asdict(one) for one in spending.endings(stored)],
        "seconds": stored.seconds,
        "spent": stored.spent,
        "at_a_time": spending.at_a_time(stored),
    }


def _next(stored: Stored, at_edges: Sequence[edges.Edge], *, is_improving: bool | None) -> Iterator[str]:
    failed = sum(trial.state == "FAIL" for trial in stored.trials)
    if failed > _MANY_FAILED * max(len(stored.trials), 1):
        yield f"look at what failed: {failed} of {len(stored.trials)} trials did"
    for edge in at_edges:
        yield f"{edge.text}: {edge.advice}"
    if _trains_to_the_end(stored):
        yield (
            "the best trial was best at its last epochs, so more epochs may help; in a new study: --name NEW "
            f"--set study.epochs={2 * stored.file.epochs}"
        )
    more = 2 * max(stored.file.settings.study.trials, len(stored.trials))
    if listing.state_json(stored)["process"]:
        yield "it is running: look again later"
    elif not stored.ended:
        yield f"it is not finished; go on with {_command(stored, 'run', 'run()')}"
    elif is_improving:
        yield f"go on with more trials: {_command(stored, 'run', f'run(trials={more})', f'--trials {more}')}"
    elif not stored.complete:
        yield "no trial was trained fully: look at what ended them"
    else:
        if not _is_of_python(stored) and confirmed.of(stored) is None:
            yield f"see how much of the best value is luck: {_command(stored, 'confirm', '')}"
        yield f"take the best model: {_command(stored, 'export', 'best.model()', '--model best.keras')}"


def _command(stored: Stored, command: str, in_python: str, options: str = "") -> str:
    """Return what to type for a stored study; a study of a Python program goes on there only."""
    if _is_of_python(stored):
        return f"study.{in_python} in its program"
    if _is_of_file(stored):
        target = shlex.quote(_shown(stored.file.path))
    else:
        target = f"{shlex.quote(_shown(stored.path))} --name {shlex.quote(stored.name)}"
    return f"manyfit {command} {target} {options}".rstrip()


def _is_of_file(stored: Stored) -> bool:
    """Return whether its study file leads to a study: not to one that was renamed, widened or copied, say."""
    with suppress(ManyfitError):
        return stored.file.path.is_file() and studyfile.locate(stored.file.path) == (stored.path, stored.name)
    return False


def _is_of_python(stored: Stored) -> bool:
    settings = stored.file.settings
    return any(str(source).startswith("python:") for source in (settings.model.build, settings.data.source))


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _trains_to_the_end(history: History) -> bool:
    """Return whether the best trial used all its epochs and was best at the last of them."""
    best = next(iter(history.complete), None)
    if best is None or best.best_epoch is None or best.ended != "finished" or "epochs" in history.file.space:
        return False
    return best.epochs > 1 and best.best_epoch > best.epochs * (1 - _LAST_EPOCHS)
