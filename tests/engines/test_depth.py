"""Studies over depth and width: structures that occur often train in lanes, rare ones by fit beside them."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from support import end, in_jax, manyfit, query, start, table, wait_for, write_study

from search.views import plan_table

pytestmark = pytest.mark.slow


def beside_and_in_lanes(folder):
    """Train one structure in lanes and two beside it, whole and then cut off after an epoch."""
    from pathlib import Path

    from lanes_kit import Checkpoints, EpochEnd, LanesEngine, Verdict, assignment, build, by_fit, rows, trainer

    from search.trials.files import StudyFiles

    units = [[16], [8], [16], [4, 4]]
    last = [3, 2, 3, 3]  # trial 1 is pruned after its second epoch

    def given(done):
        return [assignment(n, units=units[n], dropout=0.2, done=done) for n in range(4)]

    def engine(name):
        structures = [build(trainer, given(0)[0]).structure]
        checkpoints = Checkpoints(StudyFiles(Path(folder) / f"{name}.db", name))
        return LanesEngine(trainer, rows, places=3, width=2, structures=structures, checkpoints=checkpoints)

    def tick(engine, curves):
        events = engine.advance()
        noted = [
            event.detail["trial"] for event in events if getattr(event, "kind", "") == "trained by fit beside the lanes"
        ]
        ended = []
        for event in events:
            if isinstance(event, EpochEnd):
                curves[event.member.trial].append(dict(event.metrics))
                if ends := event.epoch == last[event.member.trial]:
                    assert engine.keep(event.member, Path(folder) / f"{event.member.trial}.npz") == ""
                ended.append(Verdict(event.member, ends=ends))
        engine.apply(ended)
        return noted

    whole, curves, noted = engine("whole"), {n: [] for n in range(4)}, []
    for one in given(0):
        whole.start(one)
    started = []
    while whole.members:
        noted += tick(whole, curves)
        started.append(len(whole.members))
    whole.close()

    cut, before, again = engine("cut"), {n: [] for n in range(4)}, {n: [] for n in range(4)}
    for one in given(0)[:3]:
        cut.start(one)
    tick(cut, before)
    cut.checkpoints._next = 0.0
    cut.save()
    resumed = engine("cut")
    for one in given(1)[:3]:
        resumed.start(one)
    while resumed.members:
        tick(resumed, again)

    fits = {n: by_fit(one, epochs=last[n])[1] for n, one in enumerate(given(0))}
    apart = {n: max(abs(curves[n][-1][name] - fits[n][name]) for name in fits[n]) for n in range(4)}
    return curves, noted, started, before, again, apart


def test_members_beside_lanes_train_as_fit_does_and_resume_as_if_nothing_had_happened(tmp_path):
    curves, noted, started, before, again, apart = in_jax(beside_and_in_lanes, str(tmp_path))
    assert noted == [1, 3]
    assert {trial: size for trial, size in apart.items() if not size < 1e-5} == {}
    assert {trial: len(curve) for trial, curve in curves.items()} == {"0": 3, "1": 2, "2": 3, "3": 3}
    # Trial 3 waits for a place, and gets that of the pruned one: how a member trains decides neither.
    assert started == [4, 3, 1, 1, 0]
    for trial in "012":
        assert [*before[trial], *again[trial]] == curves[trial]
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["0.npz", "1.npz", "2.npz", "3.npz"]


def short_of_memory_beside():
    from lanes_kit import LanesEngine, Noted, assignment, rows, train, trainer_of

    mine, plain, calls = trainer_of(), trainer_of().build, []

    def builder(config, data):
        calls.append(config["units"][0])
        if config["units"] == [8] and calls.count(8) == 2:  # the first is built to look at it, the second to train it
            raise MemoryError("no memory for it")
        return plain(config, data)

    object.__setattr__(mine, "build", builder)
    engine = LanesEngine(mine, rows, places=4, width=2, structures=["another"])
    found = []
    advance = engine.advance
    engine.advance = lambda: [found.append(event) or event for event in advance()]
    curves = train(engine, [assignment(0, units=[8], epochs=2), assignment(1, units=[4], epochs=2)])
    return {trial: len(curve) for trial, curve in curves.items()}, [
        dict(event.detail) for event in found if isinstance(event, Noted) and event.kind == "out of memory"
    ]


@pytest.mark.gallery
def test_member_that_lacks_memory_beside_others_begins_anew_with_fewer_at_a_time():
    epochs, short = in_jax(short_of_memory_beside)
    assert epochs == {"0": 2, "1": 2}
    assert short == [{"lanes_before": 4, "lanes": 1}]


def counted(builders):
    """Count the structures of spaces with builders that stand for models: a structure is the text of what was read."""
    from search.engines.lanes import structures
    from spaces import Space

    found = {}
    for name, (space, most_built) in builders.items():

        def built(params):
            depth = params["depth"]
            names = ["depth", *(f"units_{n}" for n in range(1, depth + 1))]
            key = " ".join(str(params[one]) for one in names)
            built.calls += 1
            return SimpleNamespace(structure=key, read=frozenset([*names, "dropout"]))

        built.calls = 0
        result = structures.count(Space.parse(space), 0, built, lifted={"dropout"}, most_built=most_built)
        chosen = result.worth_a_program(40)
        found[name] = {
            "draws": result.draws,
            "built": built.calls,
            "keys": [one.key for one in result.structures],
            "draws_of_all": sum(one.draws for one in result.structures),
            "chosen": len(chosen),
            "share": result.share(chosen),
            "compilations": result.compilations(chosen, 40),
        }
    return found


def test_structures_are_counted_most_used_first_and_built_once():
    units = {"choices": [8, 16, 32]}
    free = {
        "depth": {"low": 1, "high": 3},
        **{f"units_{n}": units for n in (1, 2, 3)},
        "dropout": {"low": 0.0, "high": 0.5},
    }
    when = {**free, "units_2": {**units, "when": {"depth": [2, 3]}}, "units_3": {**units, "when": {"depth": [3]}}}
    found = in_jax(counted, {"free": (free, 64), "when": (when, 64), "few": (free, 5)})
    for name in ("free", "when"):
        one = found[name]
        assert one["draws"] == one["draws_of_all"] == 512
        assert one["built"] == len(one["keys"]) <= 39, "a parameter that the builder does not read makes no structure"
        assert {key.split()[0] for key in one["keys"][:3]} == {"1"}, "a third of the draws have one of three structures"
        assert 3 <= one["chosen"] < 39
        assert 0.5 < one["share"] < 1
        assert one["compilations"] < 40
    assert found["few"]["built"] == len(found["few"]["keys"]) == 5
    assert found["few"]["draws"] < 512


def test_plan_names_structures_and_what_they_cost():
    one = {"params": {"depth": 2, "units": 16, "units_3": None}, "share": 0.12}
    few = {"draws": 256, "structures": 39, "share": 0.83, "most_used": [one], "compile_s": 1.74}
    assert plan_table.structures({"structures": few, "programs": 20}).splitlines() == [
        "39 in 256 draws of the space; 20 get a program each, with about 83% of the trials; compiling took 1.7 s for the largest",
        "a trial of any other compiles its own steps and trains by fit beside the lanes",
        "depth = 2, units = 16: 12% of the trials",
    ]
    said = plan_table.structures({"structures": {"compile_s": 0.5}, "programs": 6})
    assert said == "up to 6, a program each; compiling took 0.5 s for the largest"


BUILDER = """
import keras


def build(config, data):
    units = config["units"] if config["kind"] == "e" else 16
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(config["dropout"])]
    return keras.Sequential([keras.Input(data.input_shape), *layers, keras.layers.Dense(data.outputs)])
"""
STUDY = """
[study]
objective = "val_accuracy"
trials = {trials}
epochs = {epochs}
[data]
source = "sklearn:digits"
limit = 300
[model]
build = "mine.py:build"
[space]
kind = ["a", "b", "c", "d", "e"]
units = {{ low = 2, high = 300, when = {{ kind = ["e"] }} }}
dropout = {{ low = 0.0, high = 0.5 }}
learning_rate = {{ low = 1e-3, high = 1e-1, log = true }}
[search]
sampler = "random"
start = [{{ kind = "e", units = 7 }}, {{ kind = "a" }}, {{ kind = "e", units = 9 }}, {{ kind = "b" }}]
"""
SAYS = "trials of rarer structures by fit beside them"


def study_of(folder, name, *, trials, epochs):
    (folder / "mine.py").write_text(BUILDER)
    return write_study(folder, STUDY.format(trials=trials, epochs=epochs), name=name)


def beside(path):
    events = query(
        path.with_suffix(".db"), "SELECT detail FROM manyfit_events WHERE kind LIKE 'trained by fit%' ORDER BY 1"
    )
    return {json.loads(detail)["trial"] for (detail,) in events}


@pytest.mark.gallery
def test_study_of_many_widths_trains_in_lanes_and_beside_them(tmp_path):
    path = study_of(tmp_path, "widths", trials=4, epochs=2)
    done = manyfit("run", path, "--set", "run.lanes=3")
    assert done.returncode == 0, done.stderr
    assert "lanes on jax, cpu: 3 trials at a time, in one compiled program; " + SAYS in done.stderr
    assert beside(path) == {0, 2}
    assert {state for _, state, *_ in table(path.with_suffix(".db"), "widths")} == {"COMPLETE"}
    shown = manyfit("show", path).stdout
    assert "compiling 1 program" in shown
    assert "2 trials trained by fit beside the lanes" in shown
    for trial in (0, 1):
        done = manyfit("export", path, "--model", tmp_path / "best.keras", "--trial", trial)
        assert done.returncode == 0, done.stderr
        # The model of trial 0 was trained beside the lanes, that of trial 1 in one.
        now, stored = re.search(
            r"val_accuracy ([\d.]+), evaluated once more \(in the study: ([\d.]+)\)", done.stderr
        ).groups()
        assert now == stored
        (tmp_path / "best.keras").unlink()


@pytest.mark.gallery
def test_killed_study_with_trials_beside_lanes_comes_out_the_same(tmp_path):
    tables = []
    for name in ("whole", "cut"):
        path = study_of(tmp_path, name, trials=12, epochs=400)
        how = ("--set", "run.lanes=3", "--set", "search.pruner=halving")
        if name == "cut":
            process = start("run", path, *how)
            # Trial 0 trains beside trial 1, and both can go on from a checkpoint.
            wait_for(lambda: list((tmp_path / "cut.files" / "running").glob("[0-9]*.npz")), "a checkpoint")
            wait_for(lambda: query(tmp_path / "cut.db", "SELECT 1 FROM manyfit_epochs WHERE epoch = 30"), "epoch 30")
            end(process)
        done = manyfit("run", path, *how)
        assert done.returncode == 0, done.stderr
        tables.append(table(path.with_suffix(".db"), name))
    assert tables[0] == tables[1]
    assert {"PRUNED", "COMPLETE"} == {state for _, state, *_ in tables[0]}
    assert beside(tmp_path / "whole.toml") == beside(tmp_path / "cut.toml") > {0, 2}
    said = re.findall(r"trial (\d+) goes on from its checkpoint", (tmp_path / "cut.log").read_text())
    assert "0" in said
    assert "recomputed" not in manyfit("show", tmp_path / "cut.toml").stdout
