"""The errors that people see, and the exit code each of them ends a command with.

    ManyfitError                1  the study could not go on
    ├── StartError              1  no worker could start
    ├── UsageError              2  bad command line, bad file, bad data, changed identity
    │   ├── StudyFileError         a study file; names file, line, key, what was received, what to do
    │   ├── OptionError            an option of a sampler or pruner; `option` names it
    │   ├── DataError              a data source; names the file and, where there is one, the row
    │   └── IdentityError          a study that is already there was started with something else
    ├── StoreError              3  study missing, locked, or of an unknown schema
    │   └── DamagedError           what a backup would mend
    └── Interrupted           130  SIGINT (143: SIGTERM, 129: SIGHUP); the same command goes on

Each says what happened, what was received and what to do, in that order.
"""

from __future__ import annotations

import re

# A password may hold blanks and anything else: it reaches to the last @ of the line, and in an option to the next one.
# pathlib leaves one stroke of the two.
_PASSWORD = re.compile(r":/+.*@|([?&][\w-]*(?:pass|pwd|key|secret|token)[\w-]*=)[^&'\"\n]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Return `text` without the users and passwords of addresses in it, so that it can be shown and logged."""
    return _PASSWORD.sub(lambda found: f"{found[1]}***" if found[1] else "://***@", text)


def printable(text: str) -> str:
    r"""Return `text` with the bytes of names that are not UTF-8 written as escapes, such as \xe9."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class ManyfitError(Exception):
    """What could not go on, in words for the person at the terminal."""

    exit_code = 1


class UsageError(ManyfitError):
    exit_code = 2


class StartError(ManyfitError):
    """No worker could start; `why` says so shortly, for the line that tells what was done instead."""

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
    """Bad data; `key` is the study file's key that is to be mended. Names of files that are not UTF-8 are made printable."""

    def __init__(self, message: str, key: str = "data.source") -> None:
        super().__init__(printable(message))
        self.key = key


class IdentityError(UsageError):
    pass


class StoreError(ManyfitError):
    exit_code = 3


class DamagedError(StoreError):
    pass


class Interrupted(ManyfitError):  # noqa: N818 (an interruption is not an error of anybody's)
    """The study was asked to stop by a signal and stopped cleanly."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
