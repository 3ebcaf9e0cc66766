"""A pruner: every trial with an odd number is not worth more than so many epochs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OddOnesOut:
    after: int = 1

    def reason(self, standings, trial, epoch, share=1.0):
        return "an odd one" if trial % 2 and epoch >= self.after else None
