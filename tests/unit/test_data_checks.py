"""Each verdict on data: a broken source that triggers it, and a sound one that does not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from data_kit import load, write_function

from search.checking import checker, data_checks
from search.checking.exhibit import Images
from search.checking.report import NotApplicable
from search.data import Data
from search.spec.finding import Finding
from search.spec.settings import DataSection, Settings

SOUND = """
rng = np.random.default_rng(0)
y = np.arange(200) % 2
x = rng.normal(size=(200, 4)).astype("float32") + y[:, None]
"""


def source(folder, change: str = "", *, name: str = "sound") -> Data:
    return load(folder, write_function(folder, f"{SOUND}{change}\nreturn x, y", name=name))


def verdicts(data: Data, check: str) -> dict[str, Finding]:
    return {one.name: one for one in data_checks.checks()[check](data) if isinstance(one, Finding)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Data:
    return source(tmp_path_factory.mktemp("sound"))


@pytest.mark.parametrize(
    ("check", "name", "level", "change"),
    [
        ("inputs", "constant features", "look", "x[:, 1:] = 5"),
        ("inputs", "constant features", "stop", "x[:] = 5"),
        ("duplicates", "duplicates", "look", "x[1::2] = x[1]; x[::2] = x[0]"),
        ("shared rows", "shared rows", "look", "x[:100] = x[100:]"),
        ("remarks", "remarks", "look", "x[:, 3] = y; x = pd.DataFrame(x, columns=list('abcd'))"),
        ("targets", "targets", "look", "y[20:] = 0"),
        ("targets", "targets", "stop", 'y = np.full(200, 1.5, "float32")'),
        ("targets", "targets", "look", "y = x[:, 0] * 1000"),
        ("baselines", "baselines", "look", "y = rng.permutation(y)"),
    ],
)
def test_broken_data_trigger_a_verdict_and_sound_ones_do_not(tmp_path, sound, check, name, level, change, request):
    module = f"broken_{request.node.callspec.indices['change']}"
    assert verdicts(source(tmp_path, change, name=module), check)[name].level == level
    assert all(finding.level == "ok" for finding in verdicts(sound, check).values())


def test_rare_class_gets_the_bias_of_its_base_rate(tmp_path):
    found = verdicts(source(tmp_path, "y[20:] = 0", name="rare_class"), "targets")["targets"]
    # 10 of 200 rows are of the class 1, and each split has its share of them.
    assert "bias" in found.advice
    assert f"Constant({np.log(8 / 152):.3g})" in found.advice
    assert found.numbers == {"most": 152, "least": 8}


DIGITS = """
from sklearn.datasets import load_digits
rng = np.random.default_rng(0)
x, y = load_digits(return_X_y=True)
x = x.astype("float32")
{change}
return x, y
"""


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (
            "likely wrong labels",
            "some = rng.permutation(len(y))[:60]; y[some] = (y[some] + rng.integers(1, 10, 60)) % 10",
        ),
        ("outliers", "x[5:9] = 200 * rng.normal(size=(4, 64))"),
    ],
)
def test_broken_digits_trigger_a_verdict_and_sound_ones_do_not(tmp_path, check, change):
    broken = verdicts(
        load(tmp_path, write_function(tmp_path, DIGITS.format(change=change), name=f"d{len(check)}")), check
    )
    assert broken[check].level == "look"
    assert verdicts(load(tmp_path, "sklearn:digits"), check)[check].level == "ok"


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("likely wrong labels", "y[[0, 10, 20, 30]] = (y[[0, 10, 20, 30]] + 5) % 10"),
        ("outliers", "x[[0, 10, 20, 30]] *= 30"),
    ],
)
def test_suspects_are_named_by_their_place_in_the_source(tmp_path, check, change):
    source_of = write_function(tmp_path, DIGITS.format(change=change), name=f"few{len(check)}")
    found = data_checks.checks()[check](load(tmp_path, source_of, validation=0.01, test=0.01))
    (images,) = (one for one in found if isinstance(one, Images))
    places = {int(re.search(r"row (\d+)", caption)[1]) for _, caption in images.images}
    assert len(places & {0, 10, 20, 30}) >= 2


def test_test_rows_are_compared_with_training_rows(tmp_path):
    body = f"{SOUND}\nreturn dict(x=x, y=y, x_test=x[:10] + {{}}, y_test=y[:10])"
    for name, shift, expected in (("leaked", 0, "look"), ("clean", 1, "ok")):
        source_of = write_function(tmp_path, body.format(shift), name=name)
        section = DataSection(source=source_of)
        loaded = load(tmp_path, source_of)
        test = checker._test_rows(Settings(data=section), tmp_path, loaded)
        found = [one for one in data_checks.checks(test)["shared rows"](loaded) if "test rows" in one.text]
        assert [one.level for one in found if "training" in one.text] == [expected]


def test_rows_of_two_labels_are_counted(tmp_path):
    found = verdicts(source(tmp_path, "x[::2] = x[1::2]", name="two_labels"), "duplicates")["duplicates"]
    assert found.numbers["contradict"] > 40
    assert "with another target" in found.text


def test_signal_of_a_rare_class_is_seen_if_validation_rows_are_enough(tmp_path):
    rare = (
        "y = (np.arange({n}) % 10 == 0).astype(int); x = rng.normal(size=({n}, 4)).astype('float32') + 1.5 * y[:, None]"
    )
    many, few = (
        verdicts(source(tmp_path, rare.format(n=n), name=f"rare_{n}"), "baselines")["baselines"] for n in (1000, 100)
    )
    assert many.level == "ok"
    assert "too few validation rows" in few.advice


def test_baselines_of_a_regression_are_shares_of_the_variance(tmp_path):
    found = verdicts(source(tmp_path, "y = x.sum(axis=1)", name="of_numbers"), "baselines")["baselines"]
    assert found.level == "ok"
    assert found.numbers["linear"] == pytest.approx(1.0, abs=1e-3)


def test_baselines_are_left_out_for_several_inputs(tmp_path):
    several = write_function(tmp_path, f'{SOUND}\nreturn {{"a": x, "b": x[:, :1]}}, y', name="several")
    data = load(tmp_path, several)
    with pytest.raises(NotApplicable, match="several inputs"):
        verdicts(data, "baselines")
    assert verdicts(data, "shared rows")["shared rows"].level == "ok"
