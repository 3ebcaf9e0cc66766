"""The docs name what there is."""

from __future__ import annotations

import tomllib

import pytest
from support import ROOT, write_study

from search import pruners, samplers, settings, studyfile

REFERENCE = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("study", settings.StudySection),
        ("data", settings.DataSection),
        ("train", settings.TrainSection),
        ("search", settings.SearchSection),
        ("run", settings.RunSection),
    ],
)
def test_every_key_of_a_section_is_in_its_table(section, model):
    text = REFERENCE.split(f"## [{section}]")[1].split("\n## ")[0]
    for key in model.model_fields:
        assert f"`{key}`" in text, key


def test_every_sampler_pruner_and_preset_is_named():
    for name in (*samplers.NAMES, *pruners.PRUNERS, "dense", "conv"):
        assert name in REFERENCE


def test_study_file_of_the_readme_is_the_one_that_make_run_searches():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(block) == tomllib.loads((ROOT / "studies" / "digits.toml").read_text(encoding="utf-8"))


def test_space_of_the_reference_is_one_that_can_be_searched(tmp_path):
    block = REFERENCE.split("```toml\n")[1].split("```")[0]
    file = studyfile.read(write_study(tmp_path, f'[data]\nsource = "sklearn:digits"\n{block}'))
    assert {"momentum", "nesterov", "layers", "initializer"} <= set(file.space)
