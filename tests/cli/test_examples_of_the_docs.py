"""The examples of docs/models.md and docs/from-optuna.md, run as they stand, each section in a folder of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from support import ROOT, manyfit

from search.storage import records

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"```(\w+)(?: title=\"([\w.]+)\")?\n(.*?)```", re.DOTALL)


def examples():
    seen = set()
    for page in ("models", "from-optuna"):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for section in text.split("\n## ")[1:]:
            if "```" in section:
                heading = section.partition("\n")[0]
                # The first stands for the others in the quick suite.
                marks = [pytest.mark.gallery] if seen else []
                seen.add(heading)
                yield pytest.param(BLOCK.findall(section), section.count("```"), id=f"{page}: {heading}", marks=marks)


@pytest.mark.parametrize(("blocks", "fences"), list(examples()))
def test_example_runs_and_no_trial_fails(tmp_path, blocks, fences):
    assert 2 * len(blocks) == fences, "a block is not read"
    for kind, name, text in blocks:
        if kind != "console":
            assert name, "a block without a file is not run"
            (tmp_path / name).write_text(text, encoding="utf-8")
    lines = [line.removeprefix("$ ") for kind, _, text in blocks if kind == "console" for line in text.splitlines()]
    assert any(line.startswith("manyfit run") for line in lines)
    for line in lines:
        command, *arguments = shlex.split(line)
        if command == "manyfit":
            done = manyfit(*arguments, cwd=tmp_path)
        else:
            program = [sys.executable] if command == "python" else [command]
            done = subprocess.run([*program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "warning" not in done.stderr or command != "manyfit", done.stderr
    trials = records.load(tmp_path / "study.db", "study").trials
    assert {trial.state for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert any(trial.state == "COMPLETE" for trial in trials)
