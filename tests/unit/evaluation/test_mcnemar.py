import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from sortal.evaluation.mcnemar import mcnemar, mid_p


def right(both, only_a, only_b, neither):
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


def test_the_approval_survey_of_agresti():
    # Agresti, Categorical Data Analysis, matched pairs: 794 / 150 / 86 / 570, z² = 17.36.
    result = mcnemar(*right(794, 150, 86, 570))
    assert (result.b, result.c) == (150, 86)
    assert result.statistic == pytest.approx(17.36, abs=0.005)
    assert result.odds_ratio == pytest.approx(1.74, abs=0.005)
    assert result.cohens_g == pytest.approx(150 / 236 - 0.5)
    assert result.p == pytest.approx(chi2.sf(result.statistic, 1), rel=0.2)


def test_the_airway_example_of_fagerland_lydersen_and_laake():
    # 21 children, table 1 / 1 / 7 / 12: exact 0.0703, mid-p 0.0391.
    result = mcnemar(*right(1, 1, 7, 12))
    assert binomtest(1, 8).pvalue == pytest.approx(0.0703, abs=5e-5)
    assert result.p == pytest.approx(0.0391, abs=5e-5)
    assert result.odds_ratio == pytest.approx(1 / 7)


@pytest.mark.parametrize(("b", "c"), [(1, 7), (16, 6), (150, 86), (0, 5), (4000, 4200)])
def test_mid_p_is_the_exact_p_less_half_of_what_is_as_likely(b, c):
    exact = binomtest(b, b + c).pvalue
    as_likely = 2 * (
        binomtest(b, b + c, alternative="less").pvalue
        - (binomtest(b - 1, b + c, alternative="less").pvalue if b else 0)
    )
    assert mid_p(b, c) == pytest.approx(exact - as_likely / 2, rel=1e-6)
    assert mid_p(b, c) == mid_p(c, b) < exact


def test_equal_counts_are_no_evidence():
    assert mid_p(3, 3) == pytest.approx(1 - 20 / 64 / 2)
    nothing = mcnemar(*right(20, 0, 0, 20))
    assert (nothing.statistic, nothing.p, nothing.cohens_g, nothing.odds_ratio) == (0.0, 1.0, None, None)


def test_one_sided_rows_have_no_finite_odds_ratio():
    result = mcnemar(*right(5, 6, 0, 5))
    assert (result.odds_ratio, result.cohens_g) == (None, 0.5)


def test_false_winners_stay_below_the_level():
    # every table of n = 200 rows in which either is right alone with the same chance, drawn 20,000 times
    rng = np.random.default_rng(0)
    for discordance in (0.03, 0.1, 0.4):
        b, c, _ = rng.multinomial(200, [discordance / 2, discordance / 2, 1 - discordance], size=20_000).T
        pairs, times = np.unique(np.stack([b, c]), axis=1, return_counts=True)
        p = np.array([mid_p(int(b), int(c)) for b, c in pairs.T])
        assert 0.02 < times[p <= 0.05].sum() / 20_000 < 0.055


def test_vectors_of_different_rows_are_refused():
    with pytest.raises(ValueError, match="the same rows"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
