"""Quick tests first: what is broken shows in seconds. And three numbers: load held, faults survived, bad inputs refused."""

from __future__ import annotations

import re
import signal
from collections import Counter

import pytest

KINDS = {"L": "load held", "F": "faults survived", "B": "bad inputs refused"}
# Every file in it is a bad input, whatever its test's docstring says.
BAD_INPUTS = {"test_bad_studies": "B2", "test_addresses": "B4"}

# A shell starts what it leaves in the background deaf to Ctrl-C, and so would be the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--three-numbers",
        action="store_true",
        help="only loads, faults and bad inputs; end with how much was held, survived and refused",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    for item in items:
        # A test says in its docstring which row of what is to be survived it shows: "F3: ...".
        row = re.match(r"([LFB])\d+", getattr(getattr(item, "obj", None), "__doc__", None) or "")
        if row or item.path.stem in BAD_INPUTS:
            # It goes with the report, from whichever process.
            item.user_properties.append(("kind", KINDS[row[1] if row else "B"]))
    if config.getoption("--three-numbers"):
        others = [item for item in items if not item.user_properties and not item.get_closest_marker("faults")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--three-numbers"):
        return
    counts = {outcome: Counter[str]() for outcome in ("passed", "failed")}
    for outcome, count in counts.items():
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call" and (kind := dict(report.user_properties).get("kind")):
                count[kind] += 1
    shown = [f"{kind} {counts['passed'][kind]} of {sum(c[kind] for c in counts.values())}" for kind in KINDS.values()]
    terminalreporter.write_line("; ".join(shown))
