"""What the checks of a study give beside their findings. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.checking.exhibit import Exhibit
from search.spec.finding import Finding


@dataclass(frozen=True, slots=True)
class Checked:
    """The end of all checks.

    Attributes:
        left_out: check -> why it does not apply to this study.
        moves: the training is to be checked on the other backend, as a run of "auto" would do.
    """

    left_out: Mapping[str, str]
    moves: bool = False


@dataclass(frozen=True)
class Report:
    """What all checks of a study found.

    Attributes:
        config: whose model was checked; `params` are its searched parameters.
        left_out: check -> why it does not apply.
    """

    study: str
    backend: str
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    findings: tuple[Finding, ...]
    left_out: Mapping[str, str]
    exhibits: tuple[Exhibit, ...] = ()

    @property
    def has_stop(self) -> bool:
        """Whether a search would be wasted."""
        return any(finding.level == "stop" for finding in self.findings)


class NotApplicable(Exception):  # noqa: N818 (a property of a study, not a fault)
    """A check does not apply to a study; the message says why."""
