"""Given configs to choose among: how they are read, that each is drawn once, and that bayes scores those that are left."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest
from support import REPLAY, replay, replay_file, table

from search.errors import Interrupted, StudyFileError, UsageError
from search.sessions import widening
from search.sessions.confirming import confirming_file
from search.storage import records
from search.views.insights.refining import refine

WITHOUT_SPACE = REPLAY.split("[space]", maxsplit=1)[0] + "[search]" + REPLAY.split("[search]")[1]


def some(number=120, seed=0):
    """Configs drawn evenly, in no order."""
    rng = np.random.default_rng(seed)
    return [
        {"learning_rate": float(f"{10 ** rng.uniform(-4, -1):.4g}"), "dropout": round(rng.uniform(0, 0.5), 3)}
        for _ in range(number)
    ]


def study(folder, candidates, text=WITHOUT_SPACE, **settings):
    folder.mkdir(exist_ok=True)
    return replay_file(folder, text, search__candidates=candidates, **{"search__sampler": "bayes", **settings})


def loss(assignment, epoch):
    """Near 0 where the learning rate is near 0.01 and dropout near 0.1."""
    off = abs(math.log10(assignment.config["learning_rate"]) + 2) + 4 * abs(assignment.config["dropout"] - 0.1)
    return {"loss": 1.0, "val_loss": off}


def rank(stored, candidates):
    """Return how many candidates are better than the best that a study has found."""
    values = [abs(math.log10(one["learning_rate"]) + 2) + 4 * abs(one["dropout"] - 0.1) for one in candidates]
    return sum(value < min(trial.value for trial in stored.complete) - 1e-9 for value in values)


@pytest.mark.parametrize("sampler", ["bayes", "tpe", "random", "qmc", "grid"])
def test_each_candidate_is_drawn_once_and_nothing_else(tmp_path, sampler):
    candidates = some(14)
    stored = replay(
        study(tmp_path, candidates, search__sampler=sampler, search__pruner="none", study__trials=99), lanes=3
    )
    drawn = [trial.params for trial in stored.trials]
    assert len(drawn) == 14
    assert sorted(drawn, key=str) == sorted(candidates, key=str)
    assert stored.ended == "all 14 candidates have been tried"
    assert (drawn == candidates) is (sampler == "grid")


def test_bayes_finds_the_best_of_many_in_few_trials(tmp_path):
    """By chance, the best of 30 of 400 would be the 13th in the mean."""
    ranks = []
    for seed in range(3):
        candidates = some(400, seed)
        stored = replay(
            study(tmp_path / str(seed), candidates, study__trials=30, study__seed=seed, search__pruner="none"), loss
        )
        assert all(trial.params in candidates for trial in stored.trials)
        ranks.append(rank(stored, candidates))
    assert sum(ranks) <= 6, ranks


def test_interrupted_study_chooses_what_it_would_have_chosen(tmp_path):
    candidates = some(60)
    expected = table(replay(study(tmp_path / "whole", candidates, study__trials=24), lanes=3).path, "replay")
    calls = count()
    file = study(tmp_path / "cut", candidates, study__trials=24)
    with pytest.raises(Interrupted):
        replay(file, lanes=3, interruption=lambda: 2 if next(calls) > 30 else 0)
    replay(file, lanes=3)
    assert table(file.storage, "replay") == expected


def test_table_beside_the_file_makes_the_space(tmp_path):
    rows = [(1e-4, 16, "relu", True, "[64, 32]"), (1e-2, 64, "tanh", False, "[64]"), (1e-1, 32, "relu", True, "[8]")]
    lines = ["learning_rate,width,activation,norm,units", *(f'{a},{b},{c},{d},"{e}"' for a, b, c, d, e in rows)]
    (tmp_path / "configs.csv").write_text("\n".join(lines))
    file = study(tmp_path, "configs.csv")
    assert file.settings.space == {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "width": {"low": 16, "high": 64},
        "activation": ["relu", "tanh"],
        "norm": [True, False],
        "units": [[64, 32], [64], [8]],
    }
    assert file.settings.search.candidates[0] == {
        "learning_rate": 1e-4, "width": 16, "activation": "relu", "norm": True, "units": [64, 32],
    }  # fmt: skip
    (tmp_path / "configs.csv").unlink()


def test_study_keeps_its_candidates_when_the_table_is_gone(tmp_path):
    (tmp_path / "configs.csv").write_text("learning_rate,dropout\n0.001,0.1\n0.01,0.2\n0.1,0.0\n")
    stored = replay(study(tmp_path, "configs.csv", study__trials=2))
    (tmp_path / "configs.csv").unlink()
    again = records.load(stored.path, "replay").file
    assert [one["learning_rate"] for one in again.settings.search.candidates] == [0.001, 0.01, 0.1]


def test_conditions_leave_cells_blank(tmp_path):
    space = {
        "optimizer": ["adam", "sgd"],
        "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
        "width": {"low": 1, "high": 99},
    }
    (tmp_path / "configs.csv").write_text("optimizer,momentum,width\nadam,,8\nsgd,0.5,16\nsgd,0.9,\n")
    with pytest.raises(StudyFileError, match="candidate 3, width: is missing"):
        study(tmp_path, "configs.csv", REPLAY, space=space)
    (tmp_path / "configs.csv").write_text("optimizer,momentum,width\nadam,,8\nsgd,0.5,16\nsgd,0.9,32\n")
    file = study(tmp_path, "configs.csv", REPLAY, space=space, search__pruner="none")
    assert file.settings.search.candidates[0] == {"optimizer": "adam", "width": 8}
    assert len(replay(file, lambda assignment, epoch: {"loss": 1.0, "val_loss": 1.0}).trials) == 3


@pytest.mark.parametrize(
    ("candidates", "settings", "said"),
    [
        ("gone.csv", {}, "gone.csv can't be read: No such file"),
        ("configs.json", {}, "is a .csv or .tsv file, or a list of tables"),
        ([{"learning_rate": 0.1}], {}, "from 2 to 20,000 different candidates; received 1"),
        ([{"learning_rate": 0.1}, {"learning_rate": 0.1}], {}, "received 1"),
        ([{"learning_rate": 0.1}, {"dropout": 0.1}], {}, "1 candidates lack 'learning_rate'"),
        (some(3), {"search__duplicates": True}, "each candidate is trained once"),
        (some(3), {"space": {"learning_rate": {"low": 1e-4, "high": 1e-1}}}, "candidate 1, dropout: no such parameter"),
        (
            some(3),
            {"space": {"learning_rate": [1.0, 2.0], "dropout": [0.0]}},
            "candidate 1, learning_rate: must be one of",
        ),
        ([{"learning_rate": 0.1}, {"learning_rate": "x"}], {}, "learning_rate"),
    ],
)
def test_what_is_no_list_of_configs_is_refused(tmp_path, candidates, settings, said):
    with pytest.raises(StudyFileError) as refused:
        study(tmp_path, candidates, **settings)
    assert said in str(refused.value)


def test_start_is_taken_from_the_candidates(tmp_path):
    candidates = some(20)
    stored = replay(
        study(
            tmp_path, candidates, search__start=[candidates[7], {"dropout": candidates[3]["dropout"]}], study__trials=3
        )
    )
    assert [trial.params for trial in stored.trials[:2]] == [candidates[7], candidates[3]]


def test_study_of_candidates_is_confirmed_and_neither_refined_nor_widened(tmp_path):
    stored = replay(study(tmp_path, some(30), search__pruner="none", study__trials=12))
    file = confirming_file(stored, 2, 3)
    assert (file.settings.search.candidates, len(file.settings.search.start)) == ((), 6)
    assert file.storage == stored.path
    for refused in (lambda: refine(stored, []), lambda: widening.widened(stored, None, ["space.dropout.high=0.9"], [])):
        with pytest.raises(UsageError, match=r"search\.candidates"):
            refused()
