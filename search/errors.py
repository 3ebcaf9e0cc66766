"""The errors that people see, and the exit code of a command that ends with each.

    ManyfitError                1  the study could not continue
    ├── StartError              1  no worker could start
    ├── UsageError              2  bad command line, bad file, bad data, changed identity
    │   ├── StudyFileError         a study file; names file, line, key, what was received, what to do
    │   ├── OptionError            an option of a sampler or pruner; `option` names it
    │   ├── DataError              a data source; names the file and, where there is one, the row
    │   └── IdentityError          the study exists, and was started with another space, data or model
    ├── StoreError              3  study missing, locked, or of an unknown schema
    │   └── DamagedError           the database is damaged; a backup can repair it
    └── Interrupted           130  SIGINT (143: SIGTERM, 129: SIGHUP); the same command resumes the study

Each message says what happened, what was received and what to do, in that order.
"""

from __future__ import annotations

import re
from pathlib import Path

# A password may hold any character, also a blank: match up to the last @ of the line, in an option up to the next option.
# `:/+`, because pathlib turns the two slashes of an address into one.
_PASSWORD = re.compile(r":/+.*@|([?&][\w-]*(?:pass|pwd|key|secret|token)[\w-]*=)[^&'\"\n]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Return `text` with users and passwords of addresses masked, so that it can be printed and logged."""
    return _PASSWORD.sub(lambda match: f"{match[1]}***" if match[1] else "://***@", text)


def without_stray_bytes(text: str) -> str:
    r"""Return `text` with bytes that are not UTF-8, as file names may hold them, written as escapes such as \xe9."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class ManyfitError(Exception):
    """An error with a message for the person at the terminal."""

    exit_code = 1


class UsageError(ManyfitError):
    exit_code = 2


class StartError(ManyfitError):
    """No worker could start; `why` is the short reason, for the line that says what was done instead."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class StudyFileError(UsageError):
    pass


class OptionError(UsageError):
    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class DataError(UsageError):
    """Bad data. The message may hold file names that are not UTF-8.

    Attributes:
        key: the key to correct in the study file.
        fault: "several labels": rows of 0 and 1 are not one-hot. "rounded": float32 would change whole numbers. Else "".
    """

    def __init__(self, message: str, key: str = "data.source", fault: str = "") -> None:
        super().__init__(without_stray_bytes(message))
        self.key = key
        self.fault = fault


class IdentityError(UsageError):
    pass


class StoreError(ManyfitError):
    """A database can't be used. `advise_on`: the database whose backup may help; `search.storage` then adds how."""

    exit_code = 3

    def __init__(self, message: str, advise_on: Path | None = None) -> None:
        super().__init__(message)
        self.advise_on = advise_on


class DamagedError(StoreError):
    pass


class Interrupted(ManyfitError):  # noqa: N818 (a person interrupts on purpose)
    """A signal asked the study to stop, and it stopped cleanly."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
