"""Text and drawings can be told from what is behind them, in light and in dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sortal.reporting.html as page_html
from pages import Page
from report_runs import layer_curve, write_run
from sortal.reporting.report import report
from sortal.reporting.svg import heatmap

CSS = (Path(page_html.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


def schemes():
    """Custom properties of the light and the dark scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.S)
    read = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in (light, dark)]
    assert set(read[0]) == set(read[1])
    return dict(zip(("light", "dark"), read, strict=True))


def channels(colour):
    return [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def luminance(values):
    """WCAG 2.1, relative luminance."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(scheme):
    colours = {name: channels(value) for name, value in schemes()[scheme].items()}
    for name in ("fg", "muted", "link", "c0", "c1", "c2", "c3", "c4", "c5"):
        for behind in ("bg", "soft"):
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_counts_can_be_read_on_the_strongest_shade(scheme):
    colours = {name: channels(value) for name, value in schemes()[scheme].items()}
    for fill in ("c0", "c2"):
        shade = [
            heatmap._STRONGEST * f + (1 - heatmap._STRONGEST) * b
            for f, b in zip(colours[fill], colours["bg"], strict=True)
        ]
        assert contrast(colours["fg"], shade) >= 4.5, fill


@pytest.mark.parametrize("task", ["single", "multi"])
def test_every_class_of_a_drawing_has_a_style(task, tmp_path):
    folder = write_run(tmp_path / "run", ["a", "b", "c"], task, training=layer_curve())
    page = Page(Path(report(folder).html).read_text(encoding="utf-8"))
    shapes = ("svg", "line", "text", "polyline", "polygon", "circle", "rect", "path")
    drawn = {word for tag in shapes for e in page.all(tag) for word in e[1].get("class", "").split()}
    styled = set(re.findall(r"\.([a-z][a-z0-9-]*)", CSS))
    assert {"curve", "cell", "gap", "grid", "chosen", "panel"} <= drawn
    assert drawn <= styled
