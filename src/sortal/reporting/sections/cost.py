"""Quality against seconds of training, as a plot."""

from __future__ import annotations

from sortal.comparison.results import Comparison
from sortal.comparison.units import clock
from sortal.reporting.blocks import Figure
from sortal.reporting.formats import share, span
from sortal.reporting.svg.cost import CostPoint, cost_plot
from sortal.reporting.svg.scales import Scale, padded

# The most frequent label for every text costs nothing: as a point it would only stretch both axes.
_FLOOR = "majority"


def cost_figure(found: Comparison) -> Figure | None:
    """A point per method that says what its training took; None when there is none."""
    points = [
        CostPoint(m.method, m.cost["train_seconds"], m.value, m.interval, _runs(found, m.method))
        for m in found.methods
        if m.method != _FLOOR and m.cost.get("train_seconds", 0) > 0
    ]
    if not points:
        return None
    values = [v for p in points for v in (p.value, *(p.interval or ()), *(y for _, y in p.runs))]
    costs = [x for p in points for x in (p.cost, *(x for x, _ in p.runs))]
    x = Scale(*padded(costs, log=True), "seconds of training (logarithmic)", _seconds, log=True)
    y = Scale(*padded(values), f"{found.metric}, 95 % interval", lambda v: f"{v:.3g}")
    said = [
        f"{p.name}: {share(p.value)}{f' ({span(p.interval)})' if p.interval else ''} after {clock(p.cost)}"
        for p in points
    ]
    floor = [
        f"{m.method} reaches {share(m.value)} without training" for m in found.methods if m.method == _FLOOR
    ]
    several = ["small dots are single runs"] if any(p.runs for p in points) else []
    title = f"Quality against the cost of training{''.join(f'; {more}' for more in (*floor, *several))}"
    description = "; ".join(said) + "."
    return Figure(
        cost_plot(x, y, points).svg("cost-plot", title, description),
        title,
        description,
        {"points": [{"method": p.name, "train_seconds": p.cost, found.metric: p.value, "interval": p.interval, "runs": p.runs} for p in points]},
    )  # fmt: skip


def _runs(found: Comparison, method: str) -> list[tuple[float, float]]:
    done = [
        (cell["cost"]["train_seconds"], cell["metrics"][found.metric])
        for cell in found.cells
        if cell["method"] == method
        and cell.get("cost", {}).get("train_seconds", 0) > 0
        and found.metric in cell.get("metrics", {})
    ]
    return done if len(done) > 1 else []


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
