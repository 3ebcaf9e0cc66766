"""How long a tick of a worker (one epoch of all its members) may take before the pool replaces the worker as hung.

Nothing here imports keras.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from search.trials.events import Assignment, Member

# A tick is overdue after OVERDUE_FACTOR * (rest of a trial's time limit + usual time of a tick) + OVERDUE_SLACK_S.
OVERDUE_FACTOR, OVERDUE_SLACK_S = 2.0, 10.0
# The usual time of a tick is that of the longest of this many recent ticks.
_TICKS = 16


@dataclass
class Pace:
    """Measured times of one worker's ticks, and of the workers that it has replaced.

    Attributes:
        ticks: (seconds of training, members), the newest last; without ticks that computed stored epochs again.
        seconds: training time of each member's epochs in this worker.
        programs: how many this worker has compiled.
        members: of the last tick.
        epochs_to_repeat: the most stored epochs of a member that the current tick computes again.
        new_members: how many joined in the current tick; each may need another program.
    """

    ticks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_TICKS))
    seconds: dict[Member, float] = field(default_factory=dict)
    programs: int = 0
    members: frozenset[Member] = frozenset()
    epochs_to_repeat: int = 0
    new_members: int = 0

    def for_successor(self) -> Pace:
        """Return the pace of a worker that replaces this one: only the ticks carry over."""
        return Pace(ticks=self.ticks.copy())

    def begin_tick(self, members: Collection[Assignment]) -> None:
        """Record the members of the tick that begins."""
        fresh = [assignment for assignment in members if assignment.member not in self.members]
        self.epochs_to_repeat = max((assignment.done for assignment in fresh), default=0)
        self.new_members = len(fresh)
        self.members = frozenset(assignment.member for assignment in members)
        self.seconds = {member: seconds for member, seconds in self.seconds.items() if member in self.members}

    def end_tick(self, seconds: float) -> None:
        """Record the training time of the tick, without compiling and building."""
        if self.members and not self.epochs_to_repeat:
            self.ticks.append((seconds, len(self.members)))

    def deadline_s(self, members: Collection[Assignment], *, start_s: float, programs: float) -> float | None:
        """Return the seconds after which the current tick is overdue; None if no member has a limit.

        The largest remaining limit of one member counts, not their sum: members train side by side.

        Args:
            start_s: seconds of the worker's start, in which it inspected the model and compiled a program.
            programs: how many the study needs; inf if every new member may need one.
        """
        left = [
            max(0.0, assignment.limit_s - self.seconds.get(assignment.member, 0.0))
            for assignment in members
            if assignment.limit_s is not None
        ]
        if not left:
            return None
        usual_s = max((seconds * max(1.0, len(members) / count) for seconds, count in self.ticks), default=0.0)
        # Stored epochs are computed again first. Their time is unknown before the first measured tick.
        is_unknown = self.epochs_to_repeat and not self.ticks
        longest_s = sum(left) if is_unknown else max(left) + usual_s * (1 + self.epochs_to_repeat)
        compiling_s = start_s * (1 + min(self.new_members, max(0, programs - self.programs)))
        return OVERDUE_FACTOR * longest_s + OVERDUE_SLACK_S + compiling_s
