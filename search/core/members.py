"""The members of a study: those that train, those that wait, and those that have ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from search.trials.events import Member, Verdict
from search.trials.trial import Training, Trial

# After this many deaths of its workers in a row a member trains alone, so that the next death has one cause.
_SUSPECT_DEATHS = 2


class Members:
    """Which members of a study train, wait, or have ended.

    Attributes:
        waiting: interrupted members and those of the newest trial, in the order in which they start.
    """

    def __init__(self) -> None:
        self.waiting: list[Training] = []
        self._running: dict[Member, Training] = {}
        # Members that still trained when their trial ended; their engines do not know yet.
        self._released: set[Member] = set()
        # Members whose engines were told that they end, and those that the last verdicts ended.
        self._gone: set[Member] = set()
        self._just_ended: set[Member] = set()

    def __bool__(self) -> bool:
        """Whether any member trains or waits."""
        return bool(self._running or self.waiting)

    def __contains__(self, member: Member) -> bool:
        """Whether a member trains."""
        return member in self._running

    @property
    def running(self) -> list[Member]:
        """The members that train, in order."""
        return sorted(self._running)

    @property
    def unfinished(self) -> list[Member]:
        """The members that wait and those that train."""
        return [*(training.member for training in self.waiting), *self.running]

    @property
    def one_is_alone(self) -> bool:
        """Whether a member trains that must train alone."""
        return any(training.deaths >= _SUSPECT_DEATHS for training in self._running.values())

    def train(self, trial: Trial) -> bool:
        """Return whether a member of the trial trains."""
        return not self._running.keys().isdisjoint(trial.members)

    def start_next(self) -> Training | None:
        """Return the first waiting member, which trains from now on; None if it must train alone and others train."""
        if self.waiting[0].deaths >= _SUSPECT_DEATHS and self._running:
            return None
        training = self.waiting.pop(0)
        self._running[training.member] = training
        self._gone.discard(training.member)
        return training

    def release(self, members: Iterable[Member]) -> None:
        """End members; the engines of those that train learn it from the next verdicts."""
        ending = set(members)
        self._released.update(member for member in ending if self._running.pop(member, None))
        self.waiting = [training for training in self.waiting if training.member not in ending]

    def lose(self, training: Training, *, trained: bool, hung: bool, alone: bool) -> bool:
        """Count the death of a member's worker; the member waits. Return False if the member itself is the cause.

        Args:
            trained: whether the member trained; a queued member did not, and the death does not count against it.
            hung: whether one of the worker's members hung.
            alone: whether the worker had no other member.
        """
        training.deaths += trained
        if hung and trained:
            # Let its members go on one at a time, so that the next one to hang is the cause.
            training.deaths = max(_SUSPECT_DEATHS, training.deaths)
        if alone and training.deaths >= _SUSPECT_DEATHS:
            return False
        del self._running[training.member]
        self.waiting = sorted([training, *self.waiting], key=lambda waiting: waiting.member)
        return True

    def put_back(self) -> None:
        """Make all members wait that train."""
        self.waiting = [self._running[member] for member in self.running] + self.waiting
        self._running.clear()

    def verdicts(self, touched: Sequence[Member]) -> list[Verdict]:
        """Return a verdict on each member that events have touched, or that was released since."""
        members, self._released = sorted({*touched, *self._released}), set()
        verdicts = [Verdict(member, ends=member not in self._running) for member in members]
        ending = {verdict.member for verdict in verdicts if verdict.ends}
        self._just_ended = ending - self._gone
        self._gone |= ending
        return verdicts

    def have_just_ended(self, members: Iterable[Member]) -> list[Member]:
        """Return those of `members` whose end the last verdicts reported for the first time."""
        return [member for member in members if member in self._just_ended]
