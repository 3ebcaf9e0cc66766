"""A page is one file that asks nothing of a network, and shows every name as text."""

from __future__ import annotations

import json
import re

import plotly.graph_objects as go

from search.views.pages import page as pages
from search.views.pages.page import Figure, Page, Picture, Pictures, Section, Table, Text, Verdict
from search.views.printable import label

EVIL = "</script><img src=http://x.example onerror=alert(1)>\udcff\x1b"


def everywhere(text: str) -> Page:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1.0, float("nan")], name=label(text))).update_layout(title=text)
    blocks = [
        Text(text),
        Verdict("look", text, text),
        Table([text, "value"], [[text, 0.25], [None, None]]),
        Figure("curves", text, figure, text),
        Pictures("weights", text, [Picture(b"\x89PNG", text)], text),
    ]
    return Page(text, [Section(text, blocks), Section("other", [Text("more")])])


def test_names_of_people_are_text_wherever_they_stand(tmp_path):
    pages.write(everywhere(EVIL), tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img src=http" not in written
    assert "\x1b" not in written
    assert written.count("&lt;/script&gt;&lt;img") >= 10
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', written, re.DOTALL)
    figure = json.loads(data)
    # Plotly reads labels as HTML.
    assert figure["data"][0]["name"].startswith("&lt;/script&gt;&lt;img")
    assert "\x1b" not in figure["data"][0]["name"]
    assert {"template", "title"}.isdisjoint(figure["layout"])


def test_a_page_loads_nothing_from_a_network_and_holds_plotly_once():
    written = pages.to_html(everywhere("digits"))
    assert not re.search(r"<(script|img|link)[^>]*(src|href)=.?(https?:|//)", written)
    assert "default-src 'none'" in written
    assert written.count("* plotly.js v") == 1
    assert "* plotly.js v" not in pages.to_html(Page("words", [Section("one", [Text("two")])]))


def test_columns_of_numbers_stand_to_the_right():
    written = pages.to_html(
        Page("t", [Section("s", [Table(["name", "value", "is"], [["a", 0.123456789, True], ["b", None, False]])])])
    )
    assert '<td>a</td><td class="n">0.12346</td><td>True</td>' in written
