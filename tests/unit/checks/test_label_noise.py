from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from checked import context, found, news, notes, with_noise
from sortal.checks import label_noise
from sortal.checks.base import NotChecked
from sortal.checks.profiles import Profiles


def test_wrong_labels_are_found_and_the_right_ones_suggested():
    rows = news(600)
    noisy, wrong = with_noise(rows, 0.1)
    (finding,) = found("label-noise", context(noisy))
    flagged = set(finding.rows.tolist())
    assert len(flagged & wrong) >= 0.9 * len(wrong)
    assert len(flagged - wrong) <= 0.05 * len(rows)
    first = finding.rows[:20].tolist()
    assert set(first) <= wrong
    for row, note in zip(first, notes(finding), strict=False):
        assert note.startswith(f"{noisy[row][1]!r} here")
        assert f"{rows[row][1]!r} is likelier" in note
    assert finding.severity == "warning"
    assert finding.remedies == ()


def test_clean_labels_are_hardly_suspected():
    findings = found("label-noise", context(news(600)))
    assert sum(f.count for f in findings) <= 6


def test_a_row_is_not_judged_by_its_own_copies():
    rows = news(300)
    copies = [("goal match team player league", "money")] * 12
    (finding,) = found("label-noise", context(rows + copies))
    assert set(range(300, 312)) <= set(finding.rows.tolist())


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_ROWS", 400), ("CHARACTERS_TO", 400), ("MAX_BYTES", 20_000)]
)
def test_large_data_is_judged_by_a_sample(monkeypatch, limit, value):
    monkeypatch.setattr(label_noise, limit, value)
    monkeypatch.setattr(label_noise, "_CHUNK", 64)
    noisy, wrong = with_noise(news(1_000), 0.1)
    (finding,) = found("label-noise", context(noisy))
    flagged = set(finding.rows.tolist())
    assert len(flagged & wrong) >= 0.9 * len(wrong)
    assert len(flagged - wrong) <= 50


def test_rows_are_judged_a_few_at_a_time_alike(monkeypatch):
    noisy, _ = with_noise(news(300), 0.1)
    whole = label_noise.suspects(context(noisy))
    monkeypatch.setattr(label_noise, "_CELLS_AT_ONCE", 20)
    pieces = label_noise.suspects(context(noisy))
    assert pieces.rows.tolist() == whole.rows.tolist()
    assert pieces.own == pytest.approx(whole.own)


def test_features_are_bounded_by_the_number_of_labels(monkeypatch):
    monkeypatch.setattr(label_noise, "_MAX_CELLS", 300)
    found("label-noise", context(news(200)))
    x = csr_matrix(np.array([[1, 0, 2], [1, 0, 0], [1, 3, 0], [0, 3, 0]], np.float32))
    assert label_noise._most_frequent(x, 2).tolist() == [0, 1]


def test_the_same_seed_gives_the_same_rows():
    noisy, _ = with_noise(news(300), 0.1)
    one, two = (found("label-noise", context(noisy, seed=3))[0] for _ in range(2))
    assert one.rows.tolist() == two.rows.tolist()


@pytest.mark.parametrize(
    "rows",
    [
        news(40),
        [(f"text {n}", ("a", "b")) for n in range(60)],
        [(f"text {n}", "a") for n in range(60)],
        [("", "ab"[n % 2]) for n in range(60)],
    ],
)
def test_what_cannot_be_judged_is_not(rows):
    with pytest.raises(NotChecked):
        found("label-noise", context(rows))


def test_empty_texts_do_no_harm():
    rows = [*news(100), ("", "sport"), ("", "money"), ("   ", "health")]
    found("label-noise", context(rows))


def test_a_label_with_few_rows_is_not_judged():
    rows = [*news(300), *[("goal match team player league", "rare")] * 9]
    assert all(f.rows.max() < 300 for f in found("label-noise", context(rows)))


def test_every_row_has_a_score_and_the_flagged_ones_the_odds():
    noisy, _ = with_noise(news(300), 0.1)
    found_ = label_noise.suspects(context(noisy))
    assert {len(of) for of in (found_.own, found_.other, found_.instead, found_.score)} == {300}
    assert (found_.instead[found_.rows] >= label_noise.ODDS * found_.own[found_.rows]).all()
    assert (np.diff(found_.score[found_.rows]) <= 0).all()
    left = np.setdiff1d(np.arange(300), found_.rows)
    assert (found_.instead[left] < label_noise.ODDS * found_.own[left]).all()


def test_a_row_that_one_other_label_fits_comes_before_a_row_that_nothing_fits():
    score = label_noise.suspicion(np.array([0.1, 0.1, 0.2]), np.array([0.9, 0.3, 0.8]))
    assert score[0] > score[1]
    assert np.isfinite(label_noise.suspicion(np.zeros(1), np.zeros(1))).all()


def test_profiles_know_the_words_of_a_label():
    x = csr_matrix(np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]], np.float32))
    gold = csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [0, 1]]))
    p = Profiles.fit(x, gold).probabilities(
        csr_matrix(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32))
    )
    assert p.sum(axis=1) == pytest.approx(np.ones(4))
    assert p[0, 0] > 0.9
    assert p[1, 1] > 0.9
    assert p[2:] == pytest.approx(np.full((2, 2), 0.5))


def test_profiles_weigh_labels_alike_whatever_their_number_of_rows():
    x = csr_matrix(np.array([*[[1, 0]] * 20, [0, 1]], np.float32))
    gold = csr_matrix(np.array([*[[1, 0]] * 20, [0, 1]]))
    between = csr_matrix(np.array([[1, 1]], np.float32))
    assert Profiles.fit(x, gold).probabilities(between)[0] == pytest.approx([0.5, 0.5], abs=1e-5)
