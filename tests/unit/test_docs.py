"""The docs name what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from support import ROOT, write_study

from search.reading import studyfile
from search.registry import PRUNERS, SAMPLERS
from search.spec import settings

REFERENCE = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("study", settings.StudySection),
        ("data", settings.DataSection),
        ("train", settings.TrainSection),
        ("search", settings.SearchSection),
        ("limits", settings.LimitsSection),
        ("run", settings.RunSection),
    ],
)
def test_every_key_of_a_section_is_in_its_table(section, model):
    text = REFERENCE.split(f"## [{section}]")[1].split("\n## ")[0]
    for key in model.model_fields:
        assert f"`{key}`" in text, key


def test_command_reference_is_what_the_commands_say_of_themselves(tmp_path):
    words = ["-m", "typer", "search.cli.app", "utils", "docs", "--name", "manyfit", "--title", "The commands"]
    done = subprocess.run(
        [sys.executable, *words, "--output", tmp_path / "commands.md"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said, written = ((folder / "commands.md").read_text(encoding="utf-8") for folder in (tmp_path, ROOT / "docs"))
    assert said == written, f"python {' '.join(words)} --output docs/commands.md"


def test_every_sampler_pruner_and_preset_is_named():
    for name in (*SAMPLERS, *PRUNERS, "dense", "conv"):
        assert name in REFERENCE


def test_every_test_that_a_promise_names_exists():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    missing, count = [], 0
    for cell in (line.split("|")[-2] for line in text.splitlines() if line.startswith("|") and "`" in line):
        path = None
        for name in re.findall(r"`([^`]+)`", cell):
            file, _, function = name.rpartition("::")
            if name.endswith(".py"):
                file, function = name, ""
            path = ROOT / "tests" / file if file else path
            tests = path.read_text(encoding="utf-8") if path and path.is_file() else ""
            count += 1
            if not tests or (function and f"def {function}(" not in tests):
                missing.append(name)
    assert missing == []
    assert count > 40, "the table is not read"


def test_every_row_of_faults_has_a_test_that_says_so():
    """As the three numbers count them: by the first words of a docstring, or a whole file of bad input."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    said = set(re.findall(r"[LFB]\d+", "".join(re.findall(r'"""([LFB]\d+[^"]*)', tests)))) | {"B2", "B4"}
    assert said >= {f"F{n}" for n in range(1, 15)} | {f"L{n}" for n in range(1, 6)} | {f"B{n}" for n in range(1, 9)}


def test_study_file_of_the_readme_is_the_one_that_make_run_searches():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(block) == tomllib.loads((ROOT / "studies" / "digits.toml").read_text(encoding="utf-8"))


def test_space_of_the_reference_is_one_that_can_be_searched(tmp_path):
    block = REFERENCE.split("## [space]")[1].split("```toml\n")[1].split("```")[0]
    file = studyfile.read(write_study(tmp_path, f'[data]\nsource = "sklearn:digits"\n{block}'))
    assert {"momentum", "nesterov", "batch_size", "activation", "initializer"} <= set(file.space)
