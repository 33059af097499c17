import numpy as np
import pytest
from scipy.stats import norm

from sortal.evaluation.mcnemar import mid_p
from sortal.evaluation.power import power_note, smallest_difference, smallest_difference_within

Z_ALPHA, Z_BETA = norm.ppf(0.975), norm.ppf(0.8)


@pytest.mark.parametrize("discordance", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("n", [400, 1000, 10_000])
def test_connors_sample_size_for_the_answer_is_the_given_one(n, discordance):
    delta = smallest_difference(n, discordance)
    size = (Z_ALPHA * discordance**0.5 + Z_BETA * (discordance - delta**2) ** 0.5) ** 2 / delta**2
    assert size == pytest.approx(n)


@pytest.mark.parametrize(("n", "discordance"), [(600, 0.06), (1000, 0.1), (3000, 0.3)])
def test_the_test_finds_that_difference_four_times_out_of_five(n, discordance):
    delta = smallest_difference(n, discordance)
    chances = [(discordance + delta) / 2, (discordance - delta) / 2, 1 - discordance]
    b, c, _ = np.random.default_rng(0).multinomial(n, chances, size=4000).T
    pairs, times = np.unique(np.stack([b, c]), axis=1, return_counts=True)
    found = np.array([mid_p(int(b), int(c)) <= 0.05 for b, c in pairs.T])
    assert times[found].sum() / 4000 == pytest.approx(0.8, abs=0.025)


def test_agreeing_systems_do_not_make_every_difference_visible():
    # a difference needs discordant rows of its own: eight of them or so, all on one side
    assert (
        smallest_difference(1000, 0.0)
        == smallest_difference(1000, 0.001)
        == pytest.approx(7.85 / 1000, rel=0.01)
    )
    assert smallest_difference(1000, 0.0) < smallest_difference(1000, 0.02) < smallest_difference(500, 0.02)


def test_an_interval_gives_the_same_answer_for_any_metric():
    se = (0.1 / 2000) ** 0.5
    assert smallest_difference_within([0.01 - 1.96 * se, 0.01 + 1.96 * se]) == pytest.approx(
        smallest_difference(2000, 0.1), rel=0.01
    )


def test_the_note_names_rows_points_and_what_it_rests_on():
    note = power_note(600, 0.065)
    assert note.startswith(
        "with 600 test rows a difference in accuracy under 2.9 points cannot be told apart"
    )
    assert "right on 6.5% of rows" in note
    assert "assuming that exactly one of the two is right on 10% of rows" in power_note(600)
