"""The default sampler: spaces as numbers, the process, and what is drawn from it."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from itertools import count, product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.stats import norm
from support import Drawing, replay, replay_file, table

from search.errors import Interrupted
from search.policies.samplers import SearchProblem, bayes, gaussian_process
from search.policies.samplers.bayes import BayesSampler
from search.policies.samplers.encoding import Encoding
from search.policies.samplers.gaussian_process import GaussianProcess, Hyperparameters, learn, log_expected_improvement
from search.policies.samplers.observations import Observations
from search.trials.objective import Objective
from spaces import Space

MIXED = Space.parse(
    {
        "rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "drop": {"low": 0.0, "high": 0.5, "step": 0.1},
        "width": {"low": 8, "high": 512, "log": True},
        "layers": {"low": 1, "high": 4},
        "batch": [128, 32, 64],
        "optimizer": ["sgd", "adam", "lion"],
        "momentum": {"low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
        "flavour": {"choices": ["a", "b"], "when": {"optimizer": ["sgd", "lion"]}},
        "deep": {"low": 0.0, "high": 1.0, "when": {"layers": [3, 4]}},
        "alone": ["this"],
        "rarely": {"choices": ["that"], "when": {"optimizer": "lion"}},
    }
)
SQUARE = Space.parse({"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}})


SQUARE_LAYOUT = Encoding(SQUARE).layout


def sampler(space=SQUARE, *, direction="maximize", **more) -> Drawing:
    return Drawing("bayes", space, direction=direction, **more)


def drawn_evenly(encoding: Encoding, count: int = 300) -> np.ndarray:
    return encoding.snapped(np.random.default_rng(0).random((count, len(encoding))))


# -- spaces as numbers -------------------------------------------------------------------------------------------------


def test_points_and_configs_are_the_same_thing():
    encoding = Encoding(MIXED)
    for point in drawn_evenly(encoding):
        labels = encoding.params(point)
        assert MIXED.check(MIXED.config(labels)) == labels
        assert all((name in labels) == MIXED.is_active(name, labels) for name in MIXED)
        assert encoding.params(encoding.point(labels)) == pytest.approx(labels)
        np.testing.assert_allclose(encoding.point(labels), point, atol=1e-12)


def test_snapped_points_stay_where_they_are():
    encoding = Encoding(MIXED)
    points = drawn_evenly(encoding)
    np.testing.assert_allclose(encoding.snapped(points), points, atol=1e-12)


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_corners_are_the_ends_of_ranges(corner):
    encoding = Encoding(MIXED)
    labels = encoding.params(encoding.snapped(np.full((1, len(encoding)), corner))[0])
    ends = {0.0: (1e-4, 0.0, 8, 1, 32), 1.0: (1e-1, 0.5, 512, 4, 128)}[corner]
    assert tuple(labels[name] for name in ("rate", "drop", "width", "layers", "batch")) == pytest.approx(ends)


def test_every_whole_number_and_choice_has_its_share():
    encoding = Encoding(MIXED)
    drawn = [encoding.params(point) for point in drawn_evenly(encoding, 4000)]
    for name, values in (("layers", [1, 2, 3, 4]), ("batch", [32, 64, 128]), ("optimizer", ["sgd", "adam", "lion"])):
        counts = [sum(labels[name] == value for labels in drawn) for value in values]
        assert min(counts) > 0.85 * max(counts), name


def distance(encoding: Encoding, one: dict, other: dict) -> float:
    features = encoding.features(np.stack([encoding.point(one), encoding.point(other)]))
    return math.sqrt(gaussian_process.squared_distances(features[:1], features[1:], encoding.layout)[0, 0])


def test_distances_are_those_between_configs():
    """Choices are equally far apart, numbers are not; what lacks a parameter is as far from each of its values."""
    encoding = Encoding(MIXED)
    base = MIXED.middle() | {"optimizer": "adam", "layers": 1}
    base = {name: value for name, value in base.items() if name not in ("momentum", "flavour", "deep")}
    # Squares are expanded, so a distance of zero is the root of a rounding error.
    assert distance(encoding, base, base) == pytest.approx(0, abs=1e-6)
    near, far = (distance(encoding, base | {"batch": 32}, base | {"batch": size}) for size in (64, 128))
    assert far == pytest.approx(2 * near)
    deep = base | {"layers": 4}
    to_low, to_high = (distance(encoding, deep | {"deep": 0.0}, deep | {"deep": value}) for value in (0.5, 1.0))
    assert to_low < to_high == pytest.approx(1.0)
    to_lion = [distance(encoding, base, base | {"optimizer": "lion", "flavour": flavour}) for flavour in "ab"]
    assert to_lion[0] == pytest.approx(to_lion[1])


def test_ends_of_a_range_are_drawn_as_they_were_written():
    encoding = Encoding(
        Space.parse({"rate": {"low": 1e-6, "high": 1e-2, "log": True}, "drop": {"low": 0.1, "high": 0.7}})
    )
    assert encoding.params([0.0, 0.0]) == {"rate": 1e-6, "drop": 0.1}
    assert encoding.params([1.0, 1.0]) == {"rate": 1e-2, "drop": 0.7}


# -- the process -------------------------------------------------------------------------------------------------------


def some_rows(count=40, seed=0, *, at_ends=False):
    rng = np.random.default_rng(seed)
    features, epochs = rng.random((count, 2)), rng.choice([3.0, 9.0], count)
    if at_ends:
        features = np.where(rng.random((count, 2)) < 0.5, np.rint(features), features)
    return features, SQUARE_LAYOUT, epochs, np.sin(3 * features[:, 0]) + np.log(epochs)


def test_process_goes_through_what_it_has_seen_and_knows_less_elsewhere():
    rows = some_rows()
    features, _, epochs, scores = rows
    hyperparameters = learn(*rows)
    late = epochs == 9
    mean, deviation = GaussianProcess(hyperparameters, *rows).predict(features[late], 9)
    np.testing.assert_allclose(mean, scores[late], atol=0.01)
    assert deviation.max() < 0.05
    far_mean, far_deviation = GaussianProcess(
        hyperparameters, features[:5], SQUARE_LAYOUT, epochs[:5], scores[:5]
    ).predict(features, 9)
    assert far_mean.shape == far_deviation.shape == (40,)
    assert far_deviation.max() > 2 * deviation.max()


def test_process_foretells_late_scores_from_early_ones():
    """Configs seen at epoch 3 only, when others have shown how epochs matter."""
    features, layout, epochs, scores = some_rows(60)
    mean, _ = GaussianProcess(learn(features, layout, epochs, scores), features, layout, epochs, scores).predict(
        features, 9
    )
    truth = np.sin(3 * features[:, 0]) + math.log(9)
    assert np.abs(mean - truth).max() < 0.1


def test_learning_finds_what_matters_and_how_much_is_noise():
    rng = np.random.default_rng(1)
    features, layout, epochs, scores = some_rows(120)
    quiet = learn(features, layout, epochs, scores)
    assert quiet.length_scales[0] < 0.3 * quiet.length_scales[1]
    noisy_scores = scores + rng.normal(0, 0.2, len(scores))
    noisy = learn(features, layout, epochs, noisy_scores)
    noise = GaussianProcess(noisy, features, layout, epochs, noisy_scores).noise
    assert 0.14 < noise < 0.26
    assert quiet.noise < noisy.noise / 30


def test_learning_finds_at_which_end_of_a_range_scores_change():
    features = np.random.default_rng(2).random((60, 2))
    scores = np.exp(-20 * features[:, 0]) + 0.5 * features[:, 1]
    hyperparameters = learn(features, SQUARE_LAYOUT, np.full(60, 9.0), scores)
    a, b = hyperparameters.warps.T
    warped = 1 - (1 - np.array([[0.2], [0.8]]) ** a) ** b
    assert warped[0, 0] > 0.5  # as much as happens in the other four fifths
    assert np.abs(warped[:, 1] - (0.2, 0.8)).max() < 0.2


def test_only_what_has_an_order_is_warped():
    encoding = Encoding(MIXED)
    points = drawn_evenly(encoding, 80)
    scores = np.random.default_rng(0).normal(size=80)
    warps = learn(encoding.features(points), encoding.layout, np.full(80, 9.0), scores).warps
    is_warped = dict(zip(MIXED, (warps != 1).any(axis=1), strict=True))
    assert [name for name, warped in is_warped.items() if warped] == ["rate", "drop", "width", "layers", "batch"]


@pytest.mark.parametrize("at_ends", [False, True])
def test_gradient_is_the_one_of_the_likelihood(monkeypatch, at_ends):
    asked = {}

    def instead(function, start, **_):
        asked["difference"] = [
            np.abs(function(at)[1] - approx_fprime(at, lambda v: function(v)[0], 1e-6)).max()
            for at in (start, start + 0.3, start - 0.4)
        ]
        asked["scale"] = np.abs(function(start + 0.3)[1]).max()

        class Found:
            x, fun = start, 0.0

        return Found

    monkeypatch.setattr("scipy.optimize.minimize", instead)
    learn(*some_rows(at_ends=at_ends))
    assert max(asked["difference"]) < 1e-4 * max(1.0, asked["scale"])


def test_hyperparameters_come_back_bit_for_bit():
    import json

    drawing = sampler()
    searched(drawing, 30)
    stored = [json.loads(json.dumps(trial.attrs)) for trial in drawing.trials if trial.attrs]
    again = Hyperparameters.read(stored[-1][bayes.KEY]["beliefs"], len(SQUARE))
    assert again.warps.tolist() == drawing._hyperparameters.warps.tolist()
    assert list(again.length_scales) == list(drawing._hyperparameters.length_scales)
    assert (again.epoch_scale, again.noise) == (drawing._hyperparameters.epoch_scale, drawing._hyperparameters.noise)


def test_hyperparameters_without_warps_are_read_too():
    old = Hyperparameters.read([math.log(0.3), math.log(0.6), 0.0, -8.0], 2)
    assert old.warps.tolist() == [[1, 1], [1, 1]]
    np.testing.assert_allclose(old.length_scales, [0.3, 0.6])
    assert Hyperparameters.read(old.written(), 2).written() == old.written()


def test_fantasies_change_no_mean_and_take_the_deviation_away():
    rows = some_rows(12)
    one, other = (GaussianProcess(Hyperparameters.prior(2), *rows) for _ in range(2))
    pending, elsewhere = np.array([[0.9, 0.9], [0.1, 0.95]]), np.random.default_rng(3).random((20, 2))
    other.fantasize(pending, 9)
    np.testing.assert_allclose(one.predict(elsewhere, 9)[0], other.predict(elsewhere, 9)[0], atol=1e-6)
    before, after = one.predict(pending, 9)[1], other.predict(pending, 9)[1]
    assert (after < np.minimum(before, 0.02)).all()


@pytest.mark.parametrize("z", [3.0, 0.0, -0.9, -1.1, -5.0, -12.0])
def test_expected_improvement_is_the_integral(z):
    computed = log_expected_improvement(np.array([z * 2.0 + 1.0]), np.array([2.0]), 1.0)[0]
    # By t = -z + s/|z|, so that the mass lies near 0 however far out.
    scale = 1 / max(1.0, abs(z))
    integral, _ = quad(lambda s: s * scale * norm.pdf(-z + s * scale) / norm.pdf(-z) * scale, 0, 60)
    assert computed == pytest.approx(math.log(2.0 * integral) + norm.logpdf(-z), abs=1e-5)


def test_expected_improvement_is_finite_and_falls_however_hopeless():
    z = -np.geomspace(1, 1e6, 200)
    computed = log_expected_improvement(z, np.ones_like(z), 0.0)
    assert np.isfinite(computed).all()
    assert (np.diff(computed) < 0).all()


# -- drawing -----------------------------------------------------------------------------------------------------------


def peak(labels) -> float:
    return 1 - (labels["x"] - 0.8) ** 2 - (labels["y"] - 0.3) ** 2


def searched(drawing: Drawing, trials: int, score=peak, epochs: int = 9) -> list[float]:
    found = []
    for number in range(trials):
        labels, _ = drawing.draw(number)
        for epoch in range(1, epochs + 1):
            drawing.report(number, epoch, score(labels) * (1 - 0.5 / epoch))
        found.append(score(labels))
        drawing.tell(number, "COMPLETE", found[-1])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_smooth_peak_is_found_in_few_trials(seed):
    assert max(searched(sampler(seed=seed), 26)) > 1 - 1e-4
    rng = np.random.default_rng(seed)
    assert max(peak({"x": rng.random(), "y": rng.random()}) for _ in range(200)) < 1 - 1e-4


def test_next_config_nearly_maximizes_the_acquisition():
    """The maximum is often in one of the 128 corners that seven parameters have."""
    space = Space.parse({name: {"low": 0.0, "high": 1.0} for name in "abcdefg"})
    encoding, corners = Encoding(space), np.array(list(product((0.0, 1.0), repeat=7)))
    short = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        seen = np.concatenate([rng.random((30, 7)), corners[rng.integers(0, 128, 10)]])
        a, b, c, d, *_ = seen.T
        scores = -np.square(a - 0.3) - b + c * d + np.maximum(0, a + b - 1.8)
        hyperparameters = replace(Hyperparameters.prior(7), length_scales=np.array([0.4, 0.6, 0.8, 0.8, 2.0, 2.0, 2.0]))
        process = GaussianProcess(hyperparameters, seen, encoding.layout, np.full(40, 9.0), scores)
        posterior = bayes._Posterior(process, encoding, 9, np.arange(40), seen)
        drawing = sampler(space)
        maxima = [drawing._maximize_acquisition(posterior, np.random.default_rng(draw))[1] for draw in range(5)]
        others = np.concatenate([corners, rng.random((20_000, 7))])
        most = max(*maxima, posterior.acquisition(others).max())
        short += [most - maximum for maximum in maxima]
    assert np.mean(short) < 0.003


def test_losses_are_minimized():
    found = searched(sampler(direction="minimize"), 26, lambda labels: 3 - peak(labels))
    assert min(found) < 2 + 1e-3


def test_best_choice_and_its_own_parameter_are_found():
    space = Space.parse(
        {
            "kind": ["a", "b", "c", "d"],
            "x": {"low": 0.0, "high": 1.0},
            "b_only": {"low": 0.0, "high": 1.0, "when": {"kind": "b"}},
        }
    )

    def score(labels):
        own = 1 - (labels["b_only"] - 0.7) ** 2 if labels["kind"] == "b" else 0.4
        return own - (labels["x"] - 0.2) ** 2

    drawing = sampler(space)
    found = searched(drawing, 48, score)
    assert max(found) > 0.995
    assert sum(score > 0.9 for score in found[20:]) >= 8


def test_noise_is_no_trouble():
    rng = np.random.default_rng(0)
    drawing = sampler()
    found = searched(drawing, 60, lambda labels: peak(labels) + rng.normal(0, 0.05))
    assert np.mean(found[-20:]) > np.mean(found[:16])
    assert 0.01 < drawing.outlook().noise < 0.2


def test_trials_under_way_keep_others_at_a_distance():
    """Sixteen drawn at once after the same results are sixteen different ones, not all of them on one of the many peaks."""
    drawing = sampler()
    searched(drawing, 16, lambda labels: math.sin(12 * labels["x"]) + math.cos(9 * labels["y"]))
    points = np.array([list(drawing.draw(number)[0].values()) for number in range(16, 32)])
    apart = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(16, 1)]
    assert apart.min() > 1e-3
    assert apart.max() > 0.3


def test_running_trials_teach():
    """None has ended, and yet what is drawn next is no longer drawn evenly."""
    drawing = sampler(epochs=32)
    for number in range(20):
        labels, _ = drawing.draw(number)
        for epoch in (1, 2, 3, 4):
            drawing.report(number, epoch, peak(labels) * epoch)
    drawn = [drawing.draw(number)[0] for number in range(20, 23)]
    assert all(peak(labels) > 0.95 for labels in drawn)


@pytest.mark.parametrize("score", [0.5, -1e300, 1e308])
def test_equal_scores_are_no_trouble(score):
    drawing = sampler()
    assert set(searched(drawing, 24, lambda labels: score)) == {score}
    assert math.isfinite(drawing.outlook().value)


@pytest.mark.parametrize("high", [1e3, 1e36])
def test_losses_that_explode_are_just_bad(high):
    """Two in five trainings explode: how far does not matter to the others."""

    def score(labels):
        return high * labels["x"] if labels["x"] > 0.6 else 2 - peak({**labels, "x": labels["x"] + 0.5})

    assert min(searched(sampler(direction="minimize"), 40, score)) < 1.01


def test_nothing_is_learned_when_every_trial_has_diverged():
    drawing = sampler(epochs=32)
    for number in range(20):
        labels, _ = drawing.draw(number)
        for epoch in (1, 2, 3):
            drawing.report(number, epoch, peak(labels))
    drawing.draw(20)
    assert drawing.outlook() is not None
    for number in range(21):
        drawing.tell(number, "PRUNED", None, diverged=True)
    assert drawing.outlook() is None
    drawing.draw(21)


@pytest.mark.parametrize("ended", ["diverged", "FAIL"])
def test_what_goes_wrong_is_avoided(ended):
    """Scores would be best at high x, where every training goes wrong."""
    drawing = sampler()
    wrong = []
    for number in range(40):
        labels, _ = drawing.draw(number)
        wrong.append(labels["x"] > 0.5)
        drawing.report(number, 1, labels["x"] + labels["y"])
        if wrong[-1]:
            drawing.tell(number, "FAIL" if ended == "FAIL" else "PRUNED", None, diverged=ended == "diverged")
        else:
            drawing.tell(number, "COMPLETE", labels["x"] + labels["y"])
    assert sum(wrong[16:]) <= 8
    assert drawing.outlook().value > 0.8


@pytest.mark.parametrize(
    "space",
    [
        {f"b{k}": [True, False] for k in range(9)},
        {"a": {"low": 0, "high": 9}, "b": {"low": 0, "high": 9}, "c": {"low": 0, "high": 9}},
        {"units": {"low": 8, "high": 512, "log": True}},
    ],
    ids=["switches", "numbers", "one logarithmic number"],
)
def test_config_is_not_drawn_again(space):
    """However good the best ones are: the sampler itself draws another, without being asked again."""
    drawing = sampler(Space.parse(space), epochs=3)
    drawn = set()
    for number in range(80):
        labels, _ = drawing.draw(number)
        drawn.add(tuple(labels.values()))
        score = sum(map(float, labels.values()))
        for epoch in (1, 2, 3):
            drawing.report(number, epoch, score)
        drawing.tell(number, "COMPLETE", score)
    assert len(drawn) == 80


def test_ten_thousand_trials_are_few_rows_the_best_among_them():
    observed = Observations(52, 2)
    rng = np.random.default_rng(0)
    best = 7_000
    for trial in range(10_000):
        observed.add(trial, rng.random(2))
        for epoch in (3, 6, 13, 26, 52) if trial % 9 == 0 else (3, 6):
            observed.report(trial, epoch, 2.0 if trial == best else rng.random())
        if trial < 9_990:
            observed.end(trial, is_bad=trial % 50 == 1, is_complete=trial % 9 == 0)
    rows = observed.rows(10_000, 400)
    assert len(rows.scores) <= 400
    assert best in rows.trials
    assert set(rows.running) <= set(range(9_990, 10_000))
    assert rows.scores.min() == rows.scores[np.isin(rows.trials, range(1, 10_000, 50))].max()
    assert np.isfinite(rows.scores).all()


def test_process_of_ten_thousand_trials_is_no_larger_than_that_of_a_thousand():
    """So that a suggestion costs no more, which benchmarks/suggesting.py measures."""
    sizes = []
    for trials in (1_000, 10_000):
        drawing = sampler(epochs=8)
        rng = np.random.default_rng(0)
        for number in range(trials):
            labels = {"x": rng.random(), "y": rng.random()}
            drawing.put(number, labels)
            for epoch in range(1, 9):
                drawing.report(number, epoch, peak(labels) * (1 - 0.5 / epoch))
            drawing.tell(number, "COMPLETE", peak(labels))
        drawing.draw(trials)
        posterior = drawing._posterior(trials, drawing._hyperparameters)
        sizes.append((len(posterior.process._y), len(posterior.trials)))
    assert sizes[0] == sizes[1] == (bayes.ROWS, bayes.ROWS // 2)


def late(labels, epoch: int) -> float:
    """The further to the right, the slower and the higher."""
    return 0.5 * (1 - labels["x"]) + labels["x"] * (epoch / 9) ** 3


def test_pruning_of_a_late_bloomer_is_vetoed_and_that_of_a_hopeless_trial_is_not():
    drawing = sampler()
    for number in range(24):
        labels, _ = drawing.draw(number)
        labels["x"] *= 0.85
        drawing.put(number, labels)
        for epoch in range(1, 10):
            drawing.report(number, epoch, late(labels, epoch))
        drawing.tell(number, "COMPLETE", late(labels, 9))
    drawing.draw(24)
    begun = {}
    for number, x, is_vetoed in ((24, 0.3, False), (25, 0.99, True)):
        labels = {"x": x, "y": 0.5}
        drawing.put(number, labels)
        drawing.report(number, 1, begun.setdefault(x, late(labels, 1)))
        assert drawing.vetoes_pruning(number, 1) == is_vetoed
        drawing.tell(number, "PRUNED", late(labels, 1))
    assert begun[0.99] < begun[0.3], "halving would have taken the other one"


class Thorough(BayesSampler):
    """Looks for the best new config, even if a better one than the trial has been found."""

    def _maximize_acquisition(self, posterior, rng, choices=None, is_enough=None):
        return super()._maximize_acquisition(posterior, rng, choices)


def test_veto_is_the_same_as_if_the_best_new_config_was_looked_for():
    drawing = sampler()
    for number in range(24):
        labels, _ = drawing.draw(number)
        drawing.put(number, {**labels, "x": labels["x"] * 0.85})
        for epoch in range(1, 10):
            drawing.report(number, epoch, late(drawing.trials[number].params, epoch))
        drawing.tell(number, "COMPLETE", late(drawing.trials[number].params, 9))
    drawing.draw(24)
    thorough = Thorough(SearchProblem(SQUARE, Objective("val_loss", "maximize"), 0, 9, {}))
    vetoes = []
    for number, x in enumerate((0.3, 0.99, 0.6, 0.9, 0.97, 0.1, 0.98), 24):
        drawing.put(number, {"x": x, "y": 0.5})
        drawing.report(number, 1, late(drawing.trials[number].params, 1))
        vetoes.append(drawing.vetoes_pruning(number, 1))
        assert thorough.vetoes_pruning(drawing.trials, number, 1) == vetoes[-1]
        drawing.tell(number, "PRUNED", late(drawing.trials[number].params, 1))
    assert set(vetoes) == {True, False}


def test_nothing_is_vetoed_before_anything_is_learned():
    drawing = sampler()
    drawing.draw(0)
    drawing.report(0, 1, 0.5)
    assert not drawing.vetoes_pruning(0, 1)


def test_outlook_tells_what_was_learned():
    drawing = sampler()
    assert drawing.outlook() is None
    found = searched(drawing, 25, lambda labels: 1 - (labels["x"] - 0.8) ** 2)
    outlook = drawing.outlook()
    assert outlook.length_scales["x"] < outlook.length_scales["y"]
    assert outlook.value == pytest.approx(max(found) * (1 - 0.5 / 9), abs=0.02)
    assert found[outlook.trial] == pytest.approx(max(found), abs=1e-3)
    assert 0 <= outlook.deviation < 0.1
    assert set(outlook.middles) == {"x", "y"}


def test_outlook_tells_where_a_ranges_middle_is():
    drawing = sampler()
    searched(drawing, 40, lambda labels: math.exp(-20 * labels["x"]) - 0.1 * labels["y"])
    middles = drawing.outlook().middles
    assert middles["x"] < 0.25 < middles["y"]


def test_outlook_tells_middles_of_ranges_and_of_nothing_else():
    drawing = sampler(MIXED)
    searched(drawing, 24, lambda labels: -math.log10(labels["rate"]))
    middles = drawing.outlook().middles
    assert set(middles) == {"rate", "drop", "width", "layers"}
    assert 1e-4 < middles["rate"] < 1e-1
    assert middles["layers"] in (2, 3)


# -- in a study --------------------------------------------------------------------------------------------------------

FINITE = {"space__learning_rate": [1e-3, 1e-2, 1e-1], "space__dropout": [0.0, 0.1, 0.2, 0.3]}


@pytest.mark.parametrize("name", ["bayes", "random", "tpe", "qmc"])
@pytest.mark.parametrize("lanes", [1, 5])
def test_space_that_is_used_up_ends_the_study(tmp_path, name, lanes):
    file = replay_file(tmp_path, study__trials=40, search__sampler=name, **FINITE)
    stored = replay(file, lanes=lanes)
    assert len({tuple(trial.params.values()) for trial in stored.trials}) == len(stored.trials) == 12
    assert stored.ended == "all 12 configs of the space have been tried"
    assert len(replay(file, lanes=lanes).trials) == 12


def test_start_configs_are_completed_to_different_ones(tmp_path):
    """Two of the four configs are asked for in full and in part: each of the four is trained once."""
    start = [{"learning_rate": 1e-2}, {"learning_rate": 1e-2, "dropout": 0.1}, {"learning_rate": 1e-2}]
    values = {"space__learning_rate": [1e-3, 1e-2], "space__dropout": [0.0, 0.1], "search__start": start}
    for name in ("bayes", "random", "tpe"):
        (tmp_path / name).mkdir()
        stored = replay(replay_file(tmp_path / name, study__trials=9, search__sampler=name, **values))
        assert len({tuple(trial.params.values()) for trial in stored.trials}) == len(stored.trials) == 4


def test_start_config_twice_is_refused_unless_asked_for(tmp_path):
    from search.errors import StudyFileError

    start = [{"learning_rate": 1e-2, "dropout": 0.1}, {"dropout": 0.1, "learning_rate": 1e-2}]
    with pytest.raises(StudyFileError, match="is the config of start 0 again"):
        replay_file(tmp_path, search__start=start)
    stored = replay(replay_file(tmp_path, search__start=start, search__duplicates=True))
    assert stored.trials[0].params == stored.trials[1].params


def test_decimal_steps_are_met_whatever_their_last_digit(tmp_path):
    start = [{"dropout": 0.3}]
    for name in ("bayes", "random"):
        (tmp_path / name).mkdir()
        step = {"space__dropout": {"low": 0.0, "high": 0.5, "step": 0.1}, "space__learning_rate": [1e-3, 1e-2]}
        stored = replay(
            replay_file(tmp_path / name, study__trials=40, search__sampler=name, search__start=start, **step)
        )
        assert len(stored.trials) == 12
        assert len({round(trial.config["dropout"], 6) for trial in stored.trials}) == 6


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_duplicates_are_drawn_if_asked_for(tmp_path, name):
    file = replay_file(tmp_path, study__trials=40, search__sampler=name, search__duplicates=True, **FINITE)
    stored = replay(file)
    assert len(stored.trials) == 40
    assert len({tuple(trial.params.values()) for trial in stored.trials}) <= 12


def test_conditions_count_when_configs_are_counted(tmp_path):
    space = """
[study]
objective = "val_loss"
trials = 50
epochs = 3
[data]
source = "sklearn:digits"
[space]
learning_rate = [1e-3, 1e-2]
dropout = [0.0, 0.1, 0.2]
optimizer = ["sgd", "adam"]
momentum = { choices = [0.0, 0.9], when = { optimizer = "sgd" } }
"""
    stored = replay(replay_file(tmp_path, space))
    assert stored.ended == "all 18 configs of the space have been tried"
    assert len(stored.trials) == 18


@pytest.mark.parametrize("after", [3, 9, 14])
def test_interrupted_study_skips_the_same_duplicates(tmp_path, after):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed, disturbed = (
        replay_file(tmp_path / place, study__trials=40, study__epochs=2, search__sampler="random", **FINITE)
        for place in "ab"
    )
    replay(undisturbed)
    ticks = count()
    with pytest.raises(Interrupted):
        replay(disturbed, interruption=lambda: signal.SIGINT if next(ticks) == after else 0)
    replay(disturbed)
    assert table(disturbed.storage, "replay") == table(undisturbed.storage, "replay")


@pytest.mark.parametrize("after", [90, *(pytest.param(n, marks=pytest.mark.gallery) for n in (60, 115))])
def test_interrupted_study_vetoes_the_same_prunings(tmp_path, monkeypatch, after):
    vetoed: list[list[int]] = [[], []]
    vetoes_pruning = BayesSampler.vetoes_pruning

    def noted(self, trials, number: int, epoch: int) -> bool:
        is_vetoed = vetoes_pruning(self, trials, number, epoch)
        vetoed[-1 if (tmp_path / "b" / "replay.db").exists() else 0].extend([number] * is_vetoed)
        return is_vetoed

    monkeypatch.setattr(BayesSampler, "vetoes_pruning", noted)

    def curves(assignment, epoch):
        rate = 1 + math.log10(assignment.config["learning_rate"]) / 4
        return {"loss": 1.0, "val_loss": -late({"x": min(max(rate, 0.0), 1.0)}, epoch) - assignment.config["dropout"]}

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    halving = {"search__sampler": "bayes", "search__pruner": "halving", "study__trials": 50}
    undisturbed, disturbed = (replay_file(tmp_path / place, **halving) for place in "ab")
    replay(undisturbed, curves, lanes=2)
    ticks = count()
    with pytest.raises(Interrupted):
        replay(disturbed, curves, lanes=2, interruption=lambda: signal.SIGINT if next(ticks) == after else 0)
    replay(disturbed, curves, lanes=2)
    assert table(disturbed.storage, "replay") == table(undisturbed.storage, "replay")
    assert vetoed[0] == vetoed[1] != []
