"""The report says of a study what its trials show, and no more; it can be drawn of whatever a study holds."""

from __future__ import annotations

import io
import json
import math
import re
import shutil

import pytest
from rich.console import Console
from support import ROOT, cut_off, replay, replay_file

from search.errors import UsageError
from search.storage import records
from search.views import report, study_page
from search.views.figures import axes, params, thinning, training
from search.views.figures import progress as figures
from search.views.insights import answers, edges, gap, progress, spending
from search.views.pages import page as pages
from spaces import Choice

STUDY = """
[study]
objective = "val_accuracy"
trials = 40
epochs = 6
[data]
source = "sklearn:digits"
[space]
rate = { low = 1e-4, high = 1e-1, log = true }
dropout = { low = 0.0, high = 0.5 }
kind = ["<b>one", "two"]
momentum = { low = 0.5, high = 0.9, when = { kind = ["two"] } }
[search]
sampler = "random"
pruner = "none"
start = [{ rate = 1e-4, kind = "two" }]
"""


def accuracy(assignment, epoch):
    """Rises with the rate alone, and falls again after the fourth epoch while training goes on."""
    score = 0.5 + (math.log10(assignment.config["rate"]) + 4) / 10 + 0.01 * min(epoch, 8 - epoch)
    loss = 1 / epoch
    return {"loss": loss, "accuracy": score + 0.1, "val_loss": 1 + 0.3 * abs(epoch - 4), "val_accuracy": score}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return replay(replay_file(tmp_path_factory.mktemp("report"), STUDY), accuracy)


@pytest.fixture(scope="module")
def found(stored):
    return answers.answers(stored)


def drawn(stored, found=None):
    page = study_page.page(stored, found or answers.answers(stored))
    return page, pages.to_html(page)


def test_what_decides_the_value_matters_and_what_does_not_is_not_said_to(found):
    verdicts = {one.name: one.verdict for one in found.matters}
    assert found.matters[0].name == "rate"
    assert verdicts.pop("rate") == "matters"
    assert "matters" not in verdicts.values()
    rate = found.matters[0]
    assert rate.low <= rate.share <= rate.high
    assert rate.chance < 0.01 < min(one.chance for one in found.matters[1:])
    assert found.what_matters[0].startswith("rate matters")


def test_values_at_a_bound_are_an_edge_and_others_are_not(stored):
    (edge,) = edges.edges(stored)
    assert (edge.name, edge.side, edge.bound) == ("rate", "high", 0.1)
    assert edge.near > edge.among / 2
    assert 0.1 < edge.further < 1
    assert "--widen space.rate.high=" in edge.advice


def test_no_edge_where_the_best_lie_inside(tmp_path):
    def inside(assignment, epoch):
        return {"loss": 1.0, "val_accuracy": 1 - abs(math.log10(assignment.config["rate"]) + 2.5)}

    assert edges.edges(replay(replay_file(tmp_path, STUDY), inside)) == []


def test_gap_is_that_of_the_best_epoch_and_overfitting_is_seen(stored):
    best = stored.complete[0]
    assert {one.metric: round(one.training - one.validation, 6) for one in gap.gaps(best)}["accuracy"] == 0.1
    assert gap.line(stored).startswith("it overfits after epoch 4")


def test_progress_counts_the_epochs_of_all_trials_in_the_order_of_their_ends(stored):
    done = progress.progress(stored)
    assert (done.ended, done.epochs) == (40, 240)
    assert [step.epochs for step in done.steps] == [6 * step.ended for step in done.steps]
    assert done.steps[-1].value == stored.complete[0].value
    is_late = done.steps[-1].epochs >= 160
    assert done.is_improving is is_late
    assert progress.line(stored).startswith("still improving" if is_late else "not improving any more")
    assert re.search(r"better by 0\.\d+ than the start config's", progress.gain_line(stored))


def test_every_picture_is_drawn_and_names_stand_as_text(stored, found):
    page, written = drawn(stored, found)
    names = [figure.name for figure in page.figures]
    assert names == [
        "history", "best-over-epochs", "best-over-time", "curves", "curves-training", "gap", "importance", "slices",
        "contours", "parallel",
    ]  # fmt: skip
    assert "<b>one" not in written
    assert "&amp;lt;b&amp;gt;one" not in written
    # A tick of parallel coordinates is the only label that Plotly does not read as HTML.
    assert written.count("\\u003cb>one") == 1


def test_json_has_the_same_and_is_strict(stored, found):
    text = json.dumps(answers.to_json(stored, found), allow_nan=False)
    assert {"matters", "edges", "gaps", "steps", "endings"} <= json.loads(text).keys()


def test_many_trials_and_epochs_are_thinned_and_the_page_says_so(stored, found, monkeypatch):
    monkeypatch.setattr(thinning, "CURVES", 12)
    monkeypatch.setattr(thinning, "POINTS", 15)
    monkeypatch.setattr(thinning, "EPOCHS", 4)
    figure = training.curves(stored)
    best = stored.complete[0].number
    assert sum(len([x for x in trace.x if x is not None]) for trace in figure.data) == 12 * 4
    assert f"trial {best}" in [trace.name for trace in figure.data]
    assert "12 of 40 curves are shown" in figure.layout.title.text
    assert "12 of 40 curves are shown" in drawn(stored, found)[1]
    assert len(params.slices(stored).data[0].x) == 15
    assert max(params.slices(stored).data[0].y) == stored.complete[0].value


@pytest.mark.parametrize("after", [0, 1, 3])
def test_report_of_a_study_under_way(tmp_path, after):
    """With no trial, with none complete, and with some."""
    file = replay_file(tmp_path, STUDY, study__trials=8, study__epochs=2)
    cut_off(file, after, accuracy)
    stored = records.load(file.storage, file.name)
    page, written = drawn(stored)
    assert "it is not finished; go on with manyfit run" in written
    assert (len(stored.complete) > 0) is ("gap" in [figure.name for figure in page.figures])


def test_report_of_a_database_of_the_first_format(tmp_path):
    shutil.copy(ROOT / "tests" / "assets" / "format-1.db", tmp_path / "old.db")
    (name,) = records.names(tmp_path / "old.db")
    page, _ = drawn(records.load(tmp_path / "old.db", name))
    assert "history" in [figure.name for figure in page.figures]


def test_a_figure_that_can_not_be_drawn_says_why(tmp_path, stored):
    with pytest.raises(UsageError, match="over: must be one of epochs, seconds, trials; received 'hours'"):
        figures.best(stored, "hours")
    with pytest.raises(UsageError, match="has no parameter 'drop'; there are rate, dropout"):
        params.contours(stored, ["rate", "drop"])
    with pytest.raises(UsageError, match="has no complete trial yet"):
        params.slices(replay(replay_file(tmp_path, STUDY, study__trials=1), lambda *_: 1 / 0))


def test_values_that_look_alike_keep_places_of_their_own():
    """Long ones are cut, and Plotly takes equal labels for one place."""
    long = ["a" * 40 + "x", "a" * 40 + "y", "b"]
    shown = axes.labels(long)
    assert len(set(shown)) == 3
    assert shown[2] == "b"
    assert axes.values(Choice(tuple(long)), [long[1], long[0]]) == [shown[1], shown[0]]
    assert len(set(axes.labels([0.123451, 0.123452]))) == 2


def test_endings_count_what_pruning_saved(tmp_path):
    stored = replay(
        replay_file(tmp_path, STUDY, search__pruner={"name": "halving", "first_rung": 2, "eta": 2}), accuracy
    )
    found = {one.ended: one for one in spending.endings(stored)}
    assert sum(one.trials for one in found.values()) == 40
    assert found["pruned"].wanted == 6 * found["pruned"].trials > found["pruned"].epochs


def test_show_leads_with_what_a_tuner_asks_first_and_leaves_settings_out(stored, found):
    console = Console(width=100, record=True, file=io.StringIO())
    report.show(stored, 3, console)
    shown = console.export_text()
    first = [line.split("  ")[0] for line in shown.split("\n\n")[0].splitlines() if not line.startswith(" ")]
    assert first == ["improving", "gain", "matters", "next"]
    assert "--widen space.rate.high=" in shown
    assert "[study]" not in shown
    assert shown.rstrip().splitlines()[-1].startswith("replay: maximize val_accuracy; done")
    known = report.to_json(stored, 3)
    assert [one["answer"] for one in known["answers"]] == [answer for _, answer in found.lines]


def test_next_step_of_a_finished_search_is_to_confirm_and_to_take_the_model(tmp_path):
    def early(assignment, epoch):
        return {"loss": 1.0, "val_accuracy": 1.0 if assignment.member.trial == 1 else 0.5 + epoch / 1e4 * (epoch < 4)}

    stored = replay(replay_file(tmp_path, STUDY, study__trials=12), early)
    steps = answers.answers(stored).next
    assert [step.split(":")[0] for step in steps] == ["see how much of the best value is luck", "take the best model"]
    assert f"manyfit confirm {tmp_path / 'replay.toml'}" in steps[0]
