"""Finds or compiles the program of each member: a shared one, or one of its own where sharing could change its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import jax

from search.engines import failures, model_limits, model_memory
from search.engines.lanes import arithmetic, lifting
from search.engines.lanes.blocks import Lane, Loaded
from search.engines.lanes.builder import Builder, Built, fingerprinted
from search.engines.lanes.program import Program, Rows
from search.engines.training import Trainer
from search.trials.events import Assignment, Event, Member, Noted

# Programs without members are kept for later members, up to this many: each holds a model and its compiled code.
MOST_PROGRAMS = 32
# Event: why a trial shares no program.
OWN_PROGRAM = "program of its own"
_NOT_ALIKE = "it does not compute the same as other trials with the same layers, optimizer, loss and metrics"


class Programs:
    """The programs of a study, by key.

    Args:
        width: the most lanes of a program.
        expected: how many programs the study is expected to need; a structure with more keys gets programs of one lane.
        structures: those that get programs; empty: all.
        compiled: programs that are already compiled, by key.
        events: a list to which what was compiled is appended, and which trials share no program.

    Attributes:
        compile_s: seconds spent on compiling.
    """

    def __init__(
        self,
        trainer: Trainer,
        rows: Rows,
        events: list[Event],
        *,
        width: int,
        expected: int,
        structures: frozenset[str] = frozenset(),
        compiled: Mapping[str, Program],
    ) -> None:
        self._trainer, self._rows, self._events = trainer, rows, events
        self.width, self._expected = width, expected
        self.builder = Builder(trainer, rows, structures)
        self.loaded: dict[str, Loaded] = {}
        self.compile_s = 0.0
        # Keys by structure; by structure and kinds of numbers, the part of a step that lifting changes ("": none).
        self._keys: dict[str, list[str]] = {}
        self._comparisons: dict[tuple[str, frozenset[tuple[str, str, str]]], Future[str]] = {}
        # Milliseconds for one row, by structure.
        self._latencies: dict[str, float] = {}
        self._comparing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="comparing")
        for key, program in compiled.items():
            self._add(key, program)

    @property
    def lanes(self) -> Iterator[Lane]:
        """The lanes of all programs that have a member."""
        for loaded in self.loaded.values():
            yield from loaded.lanes

    def free(self, members: set[Member]) -> None:
        """Free the lanes of members."""
        for loaded in self.loaded.values():
            loaded.free(members)

    def close(self) -> None:
        """Stop building and comparing, and drop all programs."""
        self.builder.close()
        self._comparing.shutdown(wait=False, cancel_futures=True)
        self.loaded.clear()

    def of(self, assignment: Assignment) -> tuple[Built, Loaded | None]:
        """Return a member and its program: a shared one, or one of its own if its numbers can't live in a lane's state.

        None instead of a program for a member whose structure gets none.

        The lifted step is compared with Keras's own step for every new structure and every new kind of its numbers: code
        that asks whether a number is zero, one or negative gets the same answer for all lanes.
        """
        built = self.builder.get(assignment)
        self._check_limits(built)
        if self.builder.is_rare(built):
            return built, None
        comparison = None if built.why_alone else self._comparison(built)
        try:
            shared = self._program_of(built)  # compiles while the comparison runs
            why = "" if comparison is None else self._why_alone(comparison)
        except Exception as error:
            if built.why_alone or model_memory.is_short(error) or is_device_error(error):
                raise
            why = f"its step can't be compiled for several lanes: {failures.one_line(error)}"
        return self._program_of(self.builder.build(assignment, why_alone=why)) if why else shared

    def _check_limits(self, built: Built) -> None:
        """Raise OverLimitError if a member's model is beyond a limit. The latency of each structure is measured once."""
        limits = self._trainer.settings.limits
        model_limits.check_size(limits, built.model, built.assignment)
        if limits.latency_ms is None or not model_limits.is_checked(built.assignment):
            return
        structure = built.structure_at_any_batch_size if built.described else built.structure
        if structure not in self._latencies:
            # The lock also keeps the builder's thread from disturbing the measurement.
            with lifting.KERAS_STATE:
                self._latencies[structure] = model_limits.latency_ms(built.model, self._trainer.data.x_train)
        model_limits.check_latency(limits, self._latencies[structure])

    def _why_alone(self, comparison: Future[str]) -> str:
        """Return why a member's numbers can't live in a lane's state; "" if they can."""
        try:
            part = comparison.result()
        except Exception as error:
            if not model_memory.is_short(error):
                raise
            has_user_code = self.builder.has_user_code
            return "there is no memory to compare its first step with Keras's own" if has_user_code else ""
        if not part:
            return ""
        return f"with lifted numbers, the {part} of its first step would differ from Keras's own"

    def _comparison(self, built: Built) -> Future[str]:
        case = (built.structure_at_any_batch_size, built.kinds)
        comparison = self._comparisons.get(case)
        if comparison is None or (comparison.done() and comparison.exception() is not None):
            given = (built.model, built.slots, built.state, self._rows.train, built.batch_size)
            comparison = self._comparisons[case] = self._comparing.submit(arithmetic.difference, *given)
        return comparison

    def _program_of(self, built: Built) -> tuple[Built, Loaded]:
        """Return a member and its program. If its key is new, the member may have been built again."""
        known_keys = self._keys.setdefault(built.structure, [])
        if built.key not in known_keys:
            known_keys.append(built.key)
        if built.key not in self.loaded:
            empty = [key for key, loaded in self.loaded.items() if not loaded.blocks]
            for key in empty[: max(0, len(self.loaded) + 1 - MOST_PROGRAMS)]:
                del self.loaded[key]
            if why := built.why_alone or (_NOT_ALIKE if len(known_keys) > 1 else ""):
                self._events.append(Noted(OWN_PROGRAM, {"trial": built.assignment.member.trial, "why": why}))
            built, program = self._compiled(built, width=1 if len(known_keys) > self._expected else self.width)
            self._add(built.key, program)
        return built, self.loaded[built.key]

    def _compiled(self, built: Built, *, width: int) -> tuple[Built, Program]:
        """Compile a program for a member with a new key; return it with the member that it was traced from."""
        with lifting.KERAS_STATE:
            may_differ = bool(built.fingerprint) and self.builder.has_user_code
            if built.why_alone or (may_differ and fingerprinted(built, self._rows).fingerprint != built.fingerprint):
                # Another member's builder may have changed a global since this member was built.
                built = self.builder.build(built.assignment, why_alone=built.why_alone)
            width = 1 if built.why_alone else width
            program = Program(built.model, built.slots, self._rows, width=width, batch_size=built.batch_size)
            program.trace(built.state)
            self._trainer.pins.set()  # what its builder has set holds for its own trace only
        program.compile(built.state)
        return built, program

    def _add(self, key: str, program: Program) -> None:
        self.loaded[key] = Loaded(program)
        self.compile_s += program.compile_s
        detail = {"lanes": program.width, "batch_size": program.batch_size, "seconds": round(program.compile_s, 3)}
        self._events.append(Noted("program compiled", detail))


def is_device_error(error: BaseException) -> bool:
    """Whether the device failed. JAX raises its own type, but a ValueError when it copies an array to the device."""
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and f"{error}".startswith("RESOURCE_EXHAUSTED")
    )
