"""Wrong command lines, generated: each is refused with 2 and without a traceback, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import replay_file
from typer.testing import CliRunner

from search import cli

STUDY = "replay.toml"
COMMANDS = ["init", "run", "list", "show", "export", "verify", "clean", "dashboard", "plan", "doctor"]

# No option or command begins so, and no line gets by accident what it needs.
words = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)


def no_number(text: str) -> bool:
    try:
        float(text.strip())
    except ValueError:
        return True
    return False


wrong_lines = st.one_of(
    # No such command.
    names.map(lambda name: [f"z{name}", STUDY]),
    # No such option; in front of what would have been right.
    st.tuples(st.sampled_from(COMMANDS), names, st.booleans()).map(
        lambda drawn: [drawn[0], f"--zz{drawn[1]}", *([STUDY] if drawn[2] else [])]
    ),
    # Nothing to work on, or too much of it.
    st.sampled_from([[name] for name in COMMANDS if name not in ("list", "doctor")]),
    st.tuples(st.sampled_from([name for name in COMMANDS if name != "list"]), words.map(lambda w: f"x{w}")).map(
        lambda drawn: [drawn[0], STUDY, drawn[1]]
    ),
    # An option without its value.
    st.sampled_from([["run", STUDY, option] for option in ("--set", "--trials", "--seed", "--sampler", "--name")]),
    # Numbers that are none.
    st.tuples(st.sampled_from(["--trials", "--seed", "--time"]), words.filter(no_number)).map(
        lambda drawn: ["run", STUDY, f"{drawn[0]}={drawn[1]}x"]
    ),
    st.tuples(st.sampled_from(["dashboard", "--port"]), words.filter(no_number)).map(
        lambda drawn: ["dashboard", STUDY, f"--port={drawn[1]}x"]
    ),
    # Keys that there are not, values that can't be, and what is no assignment.
    st.tuples(st.sampled_from(["run", "plan"]), names, words).map(
        lambda drawn: [drawn[0], STUDY, "--set", f"zz{drawn[1]}.{drawn[1]}={drawn[2]}"]
    ),
    st.tuples(st.sampled_from(["run", "plan"]), words.filter(lambda word: "=" not in word)).map(
        lambda drawn: [drawn[0], STUDY, "--set", f"x{drawn[1]}"]
    ),
    st.tuples(
        st.sampled_from(["study.trials", "study.epochs", "space.dropout.low", "search.sampler", "train.batch_size"]),
        words,
    ).map(lambda drawn: ["run", STUDY, "--set", f"{drawn[0]}=zz{drawn[1]}"]),
    # No study file there, or none of a name that can be.
    words.map(lambda word: ["run", f"nowhere-{word}.toml"]),
    st.tuples(st.sampled_from(["../", "/", "-", ".", "\x1b"]), words).map(
        lambda drawn: ["run", STUDY, f"--name={drawn[0]}{drawn[1]}"]
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("wrong")
    replay_file(place)
    before = Path.cwd()
    os.chdir(place)
    yield place
    os.chdir(before)


@given(wrong_lines)
@example(["run", STUDY, "--set", "space.dropout.low=2"])
@example(["dashboard", STUDY, "--host", "box.example"])
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_wrong_command_line_is_refused_and_leaves_nothing(folder, line):
    """B7: 200 of them."""
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    done = CliRunner().invoke(cli.app, line)
    assert done.exit_code == 2, (line, done.output)
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert "should not have happened" not in done.stderr
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
