from __future__ import annotations

from sortal.evaluation.words import calibration, interval


def bins(*filled):
    return [
        {"low": k / 2, "high": (k + 1) / 2, "count": n, "confidence": p, "accuracy": a}
        for k, (n, p, a) in enumerate(filled)
    ]


def test_an_interval_follows_its_figure_or_is_left_out():
    assert interval([0.25, 0.75]) == ", 95 % interval 0.250 to 0.750"
    assert interval(None) == ""


def test_many_true_zeros_do_not_hide_that_the_other_probabilities_are_off():
    metrics = {
        "task": "multi",
        "ece": 0.004,
        "intervals": {},
        "calibration_bins": bins((990, 0.0, 0.0), (10, 0.6, 0.8)),
    }
    assert calibration(metrics) == (
        "Stated probabilities are 0.4 points off on average (ECE 0.004); 990 of them are at most 0.50, and the other 10 are 20.0 points off."
    )
    assert calibration(metrics | {"task": "single"}).endswith("on average (ECE 0.004).")
    empty = metrics | {"calibration_bins": bins((1000, 0.0, 0.0), (0, None, None))}
    assert calibration(empty).endswith("on average (ECE 0.004).")
