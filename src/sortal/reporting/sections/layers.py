"""The dev figure of every layer that a probe tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sortal.reporting.blocks import Figure, Section, Words
from sortal.reporting.formats import share
from sortal.reporting.source import FinishedRun
from sortal.reporting.svg.lines import Mark, Series, line_plot
from sortal.reporting.svg.scales import Scale, padded

_CURVES = 6


def layers(run: FinishedRun) -> Section | None:
    """One curve per template and pooling, the best of each layer's candidates; None for a method without layers."""
    training = run.record["training"]
    tried: Sequence[Mapping[str, Any]] = training.get("layers") or ()
    if not tried:
        return None
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for one in tried:
        curve = curves.setdefault((one["template"], one["pooling"]), {})
        curve[one["layer"]] = max(one["metric"], curve.get(one["layer"], one["metric"]))
    best = sorted(curves, key=lambda key: -max(curves[key].values()))
    series = [
        Series(f"{template}, {pooling}", sorted(curves[template, pooling]), [v for _, v in sorted(curves[template, pooling].items())])
        for template, pooling in best[:_CURVES]
    ]  # fmt: skip
    chosen = (training["template"], training["pooling"])
    depth, reached = training["layer"], curves[chosen][training["layer"]]
    numbers = [layer for one in series for layer in one.x]
    x = Scale(min(numbers), max(max(numbers), min(numbers) + 1), "layer", lambda v: f"{v:g}")
    metric = run.record["config"].get("metric_for_best_model", "metric")
    y = Scale(*padded([v for one in series for v in one.y]), f"dev {metric}", lambda v: f"{v:.3g}")
    mark = Mark(depth, reached)  # its words would stand on the curves
    title = f"Dev {metric} by layer; the ring is the choice: layer {depth}, {chosen[0]}, {chosen[1]}"
    description = (
        f"Chosen: layer {depth} with template {chosen[0]} and pooling {chosen[1]}, {share(reached)}. "
        + "; ".join(
            f"{one.name}: from {share(min(one.y))} to {share(max(one.y))}, highest at layer {one.x[list(one.y).index(max(one.y))]}"
            for one in series
        )
        + "."
    )
    plot = line_plot(x, y, series, marks=[mark], dots=True)
    left_out = len(curves) - len(series)
    words = "These are dev rows, on which the layer was chosen: the test figures above are the honest ones."
    if left_out:
        words += f" {left_out} curves that stay lower are left out."
    data = {one.name: dict(zip(map(str, one.x), one.y, strict=True)) for one in series}
    return Section(
        "layers",
        "Layers",
        [
            Figure(plot.svg("layer-plot", title, description), title, description, {"curves": data, "chosen": {"layer": depth, "template": chosen[0], "pooling": chosen[1]}}),
            Words(words),
        ],
    )  # fmt: skip
