"""Callbacks of Keras that only read the metrics of an epoch: lanes call them as `model.fit` does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace

import keras

from search.engines.named_callbacks import Maker
from search.spec.keras_callbacks import Entry, name_of
from search.trials.events import Member
from search.trials.files import StudyFiles

# TerminateOnNaN has nothing to do: a trial whose loss is not finite ends after that epoch in every engine.
_WITHOUT_EFFECT = ("TerminateOnNaN",)
_OF_METRICS = ("CSVLogger",)


def others(entries: Iterable[Entry]) -> list[str]:
    """Return the callbacks that need `model.fit`: those of the user's own, and those that change or save the model."""
    return [name for entry in entries if (name := name_of(entry)) not in (*_WITHOUT_EFFECT, *_OF_METRICS)]


class LaneCallbacks:
    """The callbacks of the members in lanes.

    Args:
        entries: of train.callbacks; `others` of them is empty.
        files: of the study; None if nothing may be written.
        objective: name and direction of the study's objective.
    """

    def __init__(self, entries: Sequence[Entry], files: StudyFiles | None, objective: tuple[str, str]) -> None:
        self._entries = [entry for entry in entries if name_of(entry) in _OF_METRICS]
        self._files, self._objective = files, objective
        self._by_member: dict[Member, list[keras.callbacks.Callback]] = {}

    def begin(self, member: Member, epoch: int) -> None:
        """Make the callbacks of a member that resumes after `epoch` complete epochs; OSError where a file can't be opened."""
        self.end([member])
        maker = Maker(self._files, member, epoch, self._objective)
        made = [maker.make(entry) for entry in self._entries]
        for callback in made:
            callback.set_model(SimpleNamespace(stop_training=False))
            callback.on_train_begin()
        self._by_member[member] = made

    def epoch_end(self, member: Member, epoch: int, metrics: Mapping[str, float]) -> None:
        """Pass on the metrics of an epoch, counted from 1; OSError where a file can't be written."""
        # `fit` gives callbacks the rate only where a metric has its name.
        has_rate = "val_learning_rate" in metrics
        logs = {name: value for name, value in metrics.items() if name != "learning_rate" or has_rate}
        for callback in self._by_member.get(member, ()):
            callback.on_epoch_end(epoch - 1, logs)

    def end(self, members: Iterable[Member]) -> None:
        """Close the files of members."""
        for member in members:
            for callback in self._by_member.pop(member, ()):
                try:
                    callback.on_train_end()
                except OSError as error:  # the curve is complete, and other members train on
                    print(f"{type(callback).__name__} of {member}: {error}", file=sys.stderr)

    def close(self) -> None:
        """Close all files."""
        self.end(list(self._by_member))
