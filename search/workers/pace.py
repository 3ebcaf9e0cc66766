"""How long a tick of a worker may take before the worker is said to stand still.

Nothing here imports keras.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from search.trials.events import Assignment, Member

# An epoch may take the rest of a trial's time and what epochs have been taking, twice over, before its worker is ended.
OVERDUE_FACTOR, OVERDUE_SLACK_S = 2.0, 10.0
# The longest of so many ticks is what one may take.
_TICKS = 16


@dataclass
class Pace:
    """What the ticks of one worker have taken, and of those that it has replaced.

    Attributes:
        ticks: (seconds of training, members), the newest last; none in which stored epochs were computed again.
        spent: seconds that the epochs of each member have taken in this worker.
        compiled: programs that this worker has.
        known: members of its last tick.
        behind: the most epochs that the tick under way has to compute again.
        new: members of it that may need another program.
    """

    ticks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_TICKS))
    spent: dict[Member, float] = field(default_factory=dict)
    compiled: int = 0
    known: frozenset[Member] = frozenset()
    behind: int = 0
    new: int = 0

    def after(self) -> Pace:
        """Return what a worker knows that takes this one's place."""
        return Pace(ticks=self.ticks.copy())

    def begins(self, members: Collection[Assignment]) -> None:
        """Take note of who is trained in the tick that begins."""
        fresh = [assignment for assignment in members if assignment.member not in self.known]
        self.behind = max((assignment.done for assignment in fresh), default=0)
        self.new = len(fresh)
        self.known = frozenset(assignment.member for assignment in members)
        self.spent = {member: seconds for member, seconds in self.spent.items() if member in self.known}

    def ticked(self, seconds: float) -> None:
        """Take note that the tick has taken so many seconds, without compiling and building."""
        if self.known and not self.behind:
            self.ticks.append((seconds, len(self.known)))

    def deadline_s(self, members: Collection[Assignment], *, start_s: float, programs: int) -> float | None:
        """Return the seconds after which the tick under way is overdue; None if no member has a limit.

        It follows from the largest remaining limit of one member, not from all together: they train side by side.

        Args:
            start_s: what the worker's start took, in which it looked at the model and compiled a program.
            programs: how many the study needs.
        """
        left = [
            max(0.0, assignment.limit_s - self.spent.get(assignment.member, 0.0))
            for assignment in members
            if assignment.limit_s is not None
        ]
        if not left:
            return None
        usual_s = max((seconds * max(1.0, len(members) / count) for seconds, count in self.ticks), default=0.0)
        # All stored epochs may be computed again first; without a tick so far nobody knows how long one takes.
        is_unknown = self.behind and not self.ticks
        longest_s = sum(left) if is_unknown else max(left) + usual_s * (1 + self.behind)
        compiling_s = start_s * (1 + min(self.new, max(0, programs - self.compiled)))
        return OVERDUE_FACTOR * longest_s + OVERDUE_SLACK_S + compiling_s
