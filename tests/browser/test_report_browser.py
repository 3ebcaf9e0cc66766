"""What a person sees of a report: drawn by a real browser, in light and dark, narrow and wide; and its pictures as files."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from support import replay, replay_file

from search.errors import UsageError
from search.views import model_page, study_page
from search.views.insights import answers
from search.views.pages import page as pages
from search.views.pages import png
from search.views.pages.page import Figure, Page, Picture, Pictures, Section

pytestmark = [pytest.mark.browser, pytest.mark.gallery]

STUDY = """
[study]
objective = "val_loss"
trials = 12
epochs = 6
[data]
source = "sklearn:digits"
[space]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
dropout = { low = 0.0, high = 0.5 }
kind = ["<i>a", "b & c"]
[search]
sampler = "random"
pruner = { name = "halving", first_rung = 2, eta = 2 }
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    stored = replay(replay_file(tmp_path_factory.mktemp("seen"), STUDY))
    square = io.BytesIO()
    Image.new("L", (8, 8), 90).save(square, "PNG")
    picture = Pictures("mistakes", "Mistakes", [Picture(square.getvalue(), "<i>a taken for b & c, 71% (row 7)")] * 12)
    model = [*model_page.left_out("no weights"), Section("Pictures", [picture])]
    return study_page.page(stored, answers.answers(stored), model)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 420)])
def test_every_figure_is_drawn_within_the_window(browser, page, tmp_path, scheme, width):
    pages.write(page, tmp_path / "page.html")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(f"file://{tmp_path}/page.html")
        browser.execute_async_script("const done = arguments[0]; drawn.then(() => done())")
        faults = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        names = browser.execute_script(
            "return [...document.querySelectorAll('.plot')].filter(p => p.querySelector('.main-svg')).map(p => p.id)"
        )
        texts = browser.execute_script("return [...document.querySelectorAll('.plot text')].map(t => t.textContent)")
        assert faults == []
        assert names == [figure.name for figure in page.figures]
        assert {"<i>a", "b & c"} <= set(texts)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        back = browser.execute_script("return getComputedStyle(document.querySelector('.plot .main-svg')).background")
        assert ("rgb(255, 255, 255)" in back) is (scheme == "light")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_pictures_as_files(page, tmp_path):
    figure = next(block for block in page.figures if block.name == "history")
    few = Page("few", [Section("one", [figure, *(b for b in page.blocks if isinstance(b, Pictures))])])
    paths = png.write(few, tmp_path / "pictures")
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["history.png", "mistakes.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.width >= 2000
            assert len(image.convert("L").getcolors()) > 10


def test_no_browser_is_a_clear_refusal(page, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="--png: no Chrome or Chromium was found"):
        png.write(page, tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


def test_names_of_figures_are_those_of_files(page):
    assert all(figure.name.replace("-", "").isalnum() for figure in page.figures if isinstance(figure, Figure))
