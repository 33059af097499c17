"""Charts put known values where they belong, and data cannot become markup."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

from sortal.evaluation.curves import PrecisionRecall
from sortal.reporting.svg.cost import CostPoint, cost_plot, place_name
from sortal.reporting.svg.drawing import CHARACTER, Drawing
from sortal.reporting.svg.heatmap import heatmap
from sortal.reporting.svg.lines import Mark, Series, line_plot
from sortal.reporting.svg.panel import panel
from sortal.reporting.svg.plot import Plot
from sortal.reporting.svg.reliability import reliability_plot
from sortal.reporting.svg.scales import Scale

UNIT = Scale(0, 1, "axis", lambda v: f"{v:g}")


def parsed(drawing):
    """The drawing as XML, which refuses what is not well formed."""
    return ElementTree.fromstring(str(drawing.svg("id", "title", "description")))


def found(drawing, name, word=""):
    return [e for e in parsed(drawing).iter(name) if word in e.get("class", "").split() or not word]


def test_a_drawing_has_a_title_and_a_description_that_its_role_points_to():
    root = parsed(Drawing(10, 20))
    assert root.get("role") == "img"
    assert root.get("viewBox") == "0 0 10 20"
    names = root.get("aria-labelledby").split()
    assert [e.text for e in root if e.get("id") in names] == ["title", "description"]


def test_data_in_texts_and_attributes_is_escaped():
    drawing = Drawing(10, 10)
    drawing.text((0, 0), '<script>alert("x")</script>', 'a" onload="x')
    svg = str(drawing.svg("id", "<script>", '"><img src=x>'))
    assert "<script" not in svg
    assert "<img" not in svg
    assert 'onload="' not in svg
    assert found(drawing, "text")[0].text == '<script>alert("x")</script>'


def test_values_lie_where_the_axes_say():
    plot = Plot(UNIT, Scale(10, 20, "y", str), width=400, height=200)
    assert plot.at(0, 10) == (plot.left, plot.bottom)
    assert plot.at(1, 20) == (plot.right, plot.top)
    assert plot.at(0.5, 15) == ((plot.left + plot.right) / 2, (plot.top + plot.bottom) / 2)
    assert plot.left < plot.right <= 400
    assert plot.top < plot.bottom <= 200


def test_a_curve_goes_through_its_points_and_leaves_out_what_is_not_finite():
    series = [Series("one", [0, 0.5, 0.75, 1], [0, 1, float("nan"), 0.5]), Series("two", [0, 1], [1, 1])]
    plot = line_plot(UNIT, UNIT, series)
    curves = found(plot, "polyline", "curve")
    drawn = [
        e.get("points") for e in curves if e.get("points").split()[0] == f"{plot.left:g},{plot.bottom:g}"
    ]
    (points,) = drawn
    expected = [plot.at(0, 0), plot.at(0.5, 1), plot.at(1, 0.5)]
    found_points = np.array([list(map(float, pair.split(","))) for pair in points.split()])
    assert found_points == pytest.approx(np.array(expected), abs=0.05)
    assert {e.text for e in found(plot, "text")} >= {"one", "two"}
    assert len({e.get("stroke-dasharray") for e in curves}) == 2  # not by colour alone


def test_a_mark_is_at_its_value_and_its_words_stay_inside():
    for x in (0.0, 0.5, 1.0):
        plot = line_plot(UNIT, UNIT, [Series("s", [0, 1], [0, 1])], marks=[Mark(x, 1.0, "chosen: layer 12")])
        (ring,) = found(plot, "circle", "chosen")
        assert (float(ring.get("cx")), float(ring.get("cy"))) == pytest.approx(plot.at(x, 1.0), abs=0.05)
        (words,) = found(plot, "text", "mark-words")
        half = len("chosen: layer 12") * CHARACTER / 2
        assert plot.left <= float(words.get("x")) - half
        assert float(words.get("x")) + half <= plot.width


def test_methods_of_equal_cost_and_quality_have_names_that_do_not_overlap():
    points = [CostPoint(f"method-{k}", 100 + k, 0.9 + k / 1000, [0.89, 0.92], [(100, 0.9)]) for k in range(6)]
    plot = cost_plot(Scale(10, 1000, "x", str, log=True), Scale(0.8, 1, "y", str), points)
    names = [(float(e.get("x")), float(e.get("y")), e.text) for e in found(plot, "text", "mark-words")]
    assert len(names) == 6
    boxes = [(x, y - 11, x + len(text) * CHARACTER, y + 4) for x, y, text in names]
    for a, b in combinations(boxes, 2):
        assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
    for box in boxes:
        assert plot.left <= box[0]
        assert box[2] <= plot.width
    assert len(found(plot, "circle", "run")) == 6


def test_the_interval_of_a_method_is_drawn_to_its_bounds():
    plot = cost_plot(Scale(1, 100, "x", str, log=True), UNIT, [CostPoint("m", 10, 0.5, [0.25, 0.75])])
    upright = max(found(plot, "line", "bar"), key=lambda e: abs(float(e.get("y1")) - float(e.get("y2"))))
    assert {float(upright.get("y1")), float(upright.get("y2"))} == {
        round(plot.at(10, 0.25)[1], 1),
        round(plot.at(10, 0.75)[1], 1),
    }
    assert float(upright.get("x1")) == round((plot.left + plot.right) / 2, 1)


def test_a_long_bold_name_at_the_edge_stays_in_the_plot():
    plot = cost_plot(Scale(1, 100, "x", str, log=True), UNIT, [])
    left, _, right, _ = place_name(plot, (plot.right - 5, 150), "head+encoder+tfidf", [])
    assert right <= plot.right
    assert right - left >= 18 * 8.6, "the width of a letter in DejaVu Sans Bold of 13 px"


def test_a_name_moves_away_from_what_is_taken():
    plot = Plot(UNIT, UNIT)
    free = place_name(plot, (200, 150), "name", [])
    assert free[0] > 200
    moved = place_name(plot, (200, 150), "name", [free])
    assert moved != free


def test_reliability_shows_stated_against_true_and_every_count():
    bins = [
        {"low": 0.0, "high": 0.5, "count": 1500, "confidence": 0.25, "accuracy": 0.5},
        {"low": 0.5, "high": 1.0, "count": 0, "confidence": None, "accuracy": None},
    ]
    plot = reliability_plot(bins, "stated", "true")
    (point,) = found(plot, "circle", "mark")
    assert (float(point.get("cx")), float(point.get("cy"))) == pytest.approx(plot.at(0.25, 0.5), abs=0.05)
    (gap,) = found(plot, "line", "gap")
    assert float(gap.get("y2")) == pytest.approx(plot.at(0.25, 0.25)[1], abs=0.05)
    assert len(found(plot, "rect", "count")) == 1
    assert "1.5k" in [e.text for e in found(plot, "text")]


def test_a_heatmap_writes_every_count_and_shades_by_the_share_of_its_row():
    drawing = heatmap(np.array([[8, 2], [0, 5]]), ["a", "b"], [10, 5], "gold", "answer")
    cells = found(drawing, "rect", "cell")
    shades = sorted(float(e.get("fill-opacity")) for e in cells)
    assert shades == [0.0, 0.09, 0.36, 0.45]
    assert sorted(e.text for e in found(drawing, "text", "small")) == ["2", "5", "8"]
    assert len(found(drawing, "rect", "diagonal-cell")) == 2


def test_the_labels_of_a_heatmap_stay_inside_it():
    names = ["x" * 60, "short"]
    drawing = heatmap(np.ones((2, 2), int), names, [2, 2], "gold", "answer")
    turned = [e for e in found(drawing, "text") if e.get("transform")]
    for element in turned:
        across, down = map(float, re.match(r"translate\((\S+) (\S+)\)", element.get("transform")).groups())
        reach = len(element.text) * 7.2 * 0.71
        assert across + reach <= drawing.width
        assert down - reach >= 14
    assert max(len(e.text) for e in turned) == 24


def test_a_panel_draws_its_curve_the_base_rate_and_the_answers_given():
    curve = PrecisionRecall(np.array([0.5, 1.0]), np.array([1.0, 0.5]), 0.75)
    drawing = panel(curve, 0.25, (0.5, 1.0))
    (line,) = found(drawing, "polyline", "curve")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert points == [(34, 20), (99, 20), (164, 85)]
    (base,) = found(drawing, "line", "diagonal")
    assert float(base.get("y1")) == pytest.approx(20 + 130 * 0.75, abs=0.05)
    assert len(found(drawing, "polygon", "mark")) == 1
    assert not found(panel(curve, 0.25, None), "polygon", "mark")
