"""Members in the lanes of a program: as many blocks of lanes as they need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from search.engines.lanes.program import Block, Program, State
from search.trials.events import Assignment, Member


@dataclass
class Lane:
    """A member in a lane. `epoch` is its last complete epoch, counted from 1; 0 before the first."""

    assignment: Assignment
    epoch: int = 0

    @property
    def member(self) -> Member:
        return self.assignment.member


@dataclass
class Loaded:
    """A program with its blocks of lanes, each with its members by the numbers of their lanes."""

    program: Program
    blocks: list[tuple[Block, dict[int, Lane]]] = field(default_factory=list)

    @property
    def lanes(self) -> Iterator[Lane]:
        """The lanes that have a member."""
        for _, lanes in self.blocks:
            yield from lanes.values()

    def add(self, lane: Lane, state: State) -> None:
        """Put a member into the first free lane; without one, add a block."""
        for block, lanes in self.blocks:
            if len(lanes) < self.program.width:
                self._put(block, lanes, lane, state)
                return
        block, lanes = Block(self.program), {}
        self._put(block, lanes, lane, state)
        self.blocks.append((block, lanes))

    def free(self, members: set[Member]) -> None:
        """Free the lanes of members. Free lanes still compute until they are refilled; their results are ignored."""
        for _, lanes in self.blocks:
            for number in [number for number, lane in lanes.items() if lane.member in members]:
                del lanes[number]

    def compact(self) -> None:
        """Move members into fewer blocks where possible: a block costs the same however few members it has."""
        self.blocks.sort(key=lambda pair: -len(pair[1]))
        while self.blocks:
            last, moving = self.blocks[-1]
            holes = [
                (block, lanes) for block, lanes in self.blocks[:-1] for _ in range(self.program.width - len(lanes))
            ]
            if len(holes) < len(moving):
                return
            for (block, lanes), (number, lane) in zip(holes, sorted(moving.items()), strict=False):
                self._put(block, lanes, lane, last.take(number))
            self.blocks.pop()

    def _put(self, block: Block, lanes: dict[int, Lane], lane: Lane, state: State) -> None:
        number = next(number for number in range(self.program.width) if number not in lanes)
        block.fill(number, state)
        lanes[number] = lane
