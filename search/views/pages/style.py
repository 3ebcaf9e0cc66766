"""The style sheet, the script and the colours of a page: both colour schemes, narrow windows, and printing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

COLOURS = (
    "#3b82d6", "#e07b28", "#2f9e5b", "#d0495a", "#9368c9", "#a3704f", "#d667b1", "#8a8f98", "#a8a52d", "#27a8b8",
)  # fmt: skip
"""All of these, and the scale's, can be told from a white and from a dark page."""
SCALE: list[tuple[float, str]] = [(0.0, "#3b82d6"), (0.5, "#8f86b0"), (1.0, "#e07b28")]
"""From low to high."""
GREY = "#8a8f98"
"""Of what matters less than the coloured."""

STYLE = """
:root { color-scheme: light dark; --text: #1c2128; --quiet: #57606a; --back: #ffffff; --line: #d0d7de; --soft: #f6f8fa;
  --link: #0757b8; --ok: #1a7f37; --look: #8a5a00; --stop: #c21f2c; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --quiet: #9da7b3; --back: #14181e; --line: #3a424c;
  --soft: #1d232b; --link: #79b8ff; --ok: #56d364; --look: #e3b341; --stop: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 16px; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 80ch; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0; }
.quiet, .verdict span { color: var(--quiet); font-size: .92rem; }
.verdict { border-left: 4px solid var(--line); padding: .15rem .7rem; }
.verdict.ok { border-color: var(--ok); } .verdict.look { border-color: var(--look); }
.verdict.stop { border-color: var(--stop); }
.verdict.ok b { color: var(--ok); } .verdict.look b { color: var(--look); } .verdict.stop b { color: var(--stop); }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap;
  max-width: 26rem; overflow: hidden; text-overflow: ellipsis; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.4rem 0; } figcaption { font-weight: 600; }
.plot { width: 100%; min-height: 120px; }
.plot .parcoords .axis path, .plot .parcoords .axis line { stroke: var(--quiet) !important; }
.pictures { display: flex; flex-wrap: wrap; gap: 10px; margin-top: .5rem; }
.pictures img { display: block; image-rendering: pixelated; border: 1px solid var(--line); height: auto; }
.pictures span { display: block; font-size: .8rem; line-height: 1.25; color: var(--quiet); }
@media print { nav { display: none; } figure { break-inside: avoid; } }
"""

# Plotly draws into SVG with colours of its own, so a change of the scheme draws each figure anew.
SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 640px)");
function template() {
  const found = structuredClone(dark.matches ? TEMPLATES.dark : TEMPLATES.light);
  if (narrow.matches) found.layout.font.size = 11;
  return found;
}
function layoutOf(figure) {
  const layout = { autosize: true, ...figure.layout, template: template() };
  if (narrow.matches) layout.legend = { ...layout.legend, orientation: "h", x: 0, y: -0.2, yanchor: "top" };
  return layout;
}
const plots = [...document.querySelectorAll(".plot")].map(
  (place) => ({ place, figure: JSON.parse(place.querySelector("script").textContent) }));
function draw() {
  const config = { responsive: true, displaylogo: false, showSendToCloud: false };
  return Promise.all(plots.map(({ place, figure }) =>
    Plotly.react(place, structuredClone(figure.data), structuredClone(layoutOf(figure)), config)));
}
for (const { place } of plots) place.replaceChildren();
dark.addEventListener("change", draw); narrow.addEventListener("change", draw);
const drawn = draw();
"""


def template(*, is_dark: bool) -> dict[str, Any]:
    """Return Plotly's template for a light or a dark page."""
    text, line, back, page = (
        ("#e6edf3", "#3a424c", "#1d232b", "#14181e") if is_dark else ("#1c2128", "#dfe3e8", "#ffffff", "#ffffff")
    )
    axis = {"gridcolor": line, "linecolor": line, "zerolinecolor": line, "automargin": True, "title": {"standoff": 8}}
    return {
        "layout": {
            "paper_bgcolor": page,
            "plot_bgcolor": page,
            "colorway": list(COLOURS),
            "font": {"color": text, "family": "system-ui, sans-serif", "size": 13},
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"bgcolor": back, "bordercolor": line, "font": {"color": text}},
            "legend": {"bgcolor": "rgba(0,0,0,0)"},
            "coloraxis": {"colorbar": {"outlinewidth": 0}},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": text},
        }
    }


def script() -> str:
    """Return the script of a page with figures."""
    templates = {"light": template(is_dark=False), "dark": template(is_dark=True)}
    return f'"use strict";\nconst TEMPLATES = {json.dumps(templates)};\n{SCRIPT}'


def layout_of(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a figure's layout without its title, which the page has, and with height and margins where it has none."""
    layout = dict(figure.get("layout", {}))
    for key in ("template", "title"):
        layout.pop(key, None)
    # The labels of parallel coordinates stand above their axes, and hang over the outer ones; Plotly leaves no room for them.
    is_parallel = any(trace.get("type") == "parcoords" for trace in figure.get("data", ()))
    margin = {"t": 64, "r": 64, "b": 36, "l": 64} if is_parallel else {"t": 24, "r": 16, "b": 44, "l": 52}
    return {"height": 420, **layout, "margin": {**margin, **layout.get("margin", {})}}
