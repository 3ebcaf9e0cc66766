"""The page of a check shows every verdict, what needs a look first, and every exhibit."""

from __future__ import annotations

import base64
import io
import json

from PIL import Image

from search.checking.exhibit import Bars, Grid, Images, Lines, Listing
from search.checking.report import Report
from search.spec.finding import Finding
from search.views import findings
from search.views.pages import checked, page


def png() -> str:
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


REPORT = Report(
    "digits",
    "jax",
    {"width": 16},
    {"width": 16, "epochs": 3},
    (
        Finding("inputs", "ok", "from 0 to 1", numbers={"high": 1.0}),
        Finding("labels", "stop", "9 outputs", "end it with 10", {"outputs": float("nan")}),
        Finding("duplicates", "look", "7 rows"),
    ),
    {"baselines": "the rows are <token> ids"},
    (
        Images("data", "examples", "Examples of each class", ((png(), "a <cat>"),), "Flat rows."),
        Listing(
            "data", "outliers", "The rows farthest", ("row", "size"), (("line 7", 2.5),), "As the model gets them."
        ),
        Bars("data", "classes", "Shares", "share", ("a", "b"), {"training": (0.5, 0.5)}),
        Grid("training", "into", "Into the net", "value", "row", ((0.5, 1.0), (2.0, float("nan")))),
        Lines(
            "training",
            "rate",
            "Range test",
            "rate",
            "loss",
            {"a batch": ((0.1, 1.0), (2.0, 1.5))},
            {"low": 0.1},
            is_log=True,
        ),
    ),
)


def test_page_has_verdicts_by_their_level_and_all_exhibits():
    written = page.to_html(checked.page(REPORT))
    order = [written.index(text) for text in ("labels: 9 outputs", "duplicates: 7 rows", "inputs: from 0 to 1")]
    assert order == sorted(order)
    for text in (
        "1 ok, 1 look, 1 stop",
        "the rows are &lt;token&gt; ids",
        "a &lt;cat&gt;",
        "The rows farthest",
        "line 7",
    ):
        assert text in written
    titles = [exhibit.title for exhibit in REPORT.exhibits]
    assert [title for title in titles if title not in written] == []


def test_report_for_programs_is_strict_json():
    table = json.loads(json.dumps(findings.to_json(REPORT), allow_nan=False))
    assert table["findings"][1]["numbers"] == {"outputs": None}
    assert "exhibits" not in table
    assert findings.end(REPORT)[-1] == "1 ok, 1 look, 1 stop"
