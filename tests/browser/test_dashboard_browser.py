"""What a person sees: the study's page, drawn by a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait
from support import replay, replay_file

pytestmark = pytest.mark.browser

TRIALS = 12

STUDY = """
[study]
name = "seen"
objective = "val_loss"
trials = 12
epochs = 8
[data]
source = "sklearn:digits"
[space]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
dropout = { low = 0.0, high = 0.5 }
activation = ["relu", "tanh"]
[search]
sampler = "random"
# A curve of one epoch is no line.
pruner = { name = "halving", first_rung = 3, eta = 3 }
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A study as manyfit writes it, some of its trials pruned."""
    stored = replay(replay_file(tmp_path, STUDY))
    assert {trial.ended for trial in stored.trials} == {"finished", "pruned"}
    return stored.path


# Each card is a heading and a plotly graph; what was really drawn is the paths and points inside of its svg.
DRAWN = """
const [heading] = arguments;
const graphs = [...document.querySelectorAll(".js-plotly-plot")];
const named = graph => {
  const own = graph.querySelector(".gtitle")?.textContent ?? "";
  const card = graph.closest(".MuiCard-root, .MuiCardContent-root")?.textContent ?? "";
  return own.includes(heading) || card.includes(heading);
};
const graph = graphs.find(named);
if (!graph) return null;
const boxes = selector => [...graph.querySelectorAll(selector)].map(mark => mark.getBoundingClientRect());
const count = selector => boxes(selector).filter(box => box.width > 0 && box.height > 0).length;
const width = graph.getBoundingClientRect().width;
return {
  lines: count(".scatterlayer .trace path.js-line"),
  points: count(".scatterlayer .trace .points path.point"),
  bars: count(".barlayer .trace .points .point path"),
  width,
};
"""


def drawn(browser, heading: str, **least: int) -> dict[str, float]:
    """Wait until the graph under `heading` shows at least so many marks."""

    def enough(driver):
        marks = driver.execute_script(DRAWN, heading)
        return marks if marks and all(marks[kind] >= count for kind, count in least.items()) else None

    return WebDriverWait(browser, 40).until(enough, f"{heading} was not drawn with {least}")


def console_errors(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_study_page_draws_history_curves_and_importance(browser, served, database, tmp_path):
    with served(database, "seen") as url:
        browser.get(url)
        drawn(browser, "History", points=9)
        curves = drawn(browser, "Intermediate", lines=TRIALS)
        drawn(browser, "Importance", bars=2)  # one of the three may weigh nothing
        browser.save_screenshot(str(tmp_path / "study.png"))
        assert "seen" in browser.find_element("tag name", "body").text
        assert console_errors(browser) == []
    assert curves["width"] > 300


@pytest.mark.parametrize(
    ("page", "shows"),
    [
        pytest.param("/dashboard", "seen", marks=pytest.mark.gallery),
        ("/dashboard/studies/1/trials", "Trial 0"),
        pytest.param("/dashboard/studies/1/analytics", "Contour", marks=pytest.mark.gallery),
        pytest.param("/dashboard/studies/1/smartSelection", "Parallel Coordinate", marks=pytest.mark.gallery),
        pytest.param("/dashboard/studies/1/note", "a note", marks=pytest.mark.gallery),
    ],
)
def test_other_pages_open_without_an_error(browser, served, database, page, shows):
    with served(database) as url:
        browser.get(url.replace("/dashboard", page))
        WebDriverWait(browser, 40).until(
            lambda driver: shows.lower() in driver.find_element("tag name", "body").text.lower(),
            f"{page} never showed {shows!r}",
        )
        assert console_errors(browser) == []
