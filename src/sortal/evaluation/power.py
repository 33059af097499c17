"""How small a difference a test set can show with 80 % power at the two-sided 5 % level."""

from __future__ import annotations

from math import sqrt

from scipy.stats import norm

ASSUMED_DISCORDANCE = 0.1
POWER = 0.8
ALPHA = 0.05


def smallest_difference(n: int, discordance: float = ASSUMED_DISCORDANCE) -> float:
    """The difference of two accuracies, a share, that McNemar's test finds with ``n`` shared test rows.

    Solves Connor's sample size n = (z_{α/2} √ψ + z_β √(ψ − δ²))² / δ² (1987, Biometrics 43:207–211) for δ. A difference
    brings at least as many discordant rows as it is large, so ψ is not taken below the δ that it would allow.

    Args:
        n: test rows.
        discordance: ψ, the share of rows that exactly one of the two has right.
    """
    za, zb = _quantiles()
    per_root = (za * sqrt(n) + zb * sqrt(max(0.0, n + zb**2 - za**2))) / (n + zb**2)
    return min(1.0, per_root * max(sqrt(discordance), per_root))


def smallest_difference_within(interval: list[float]) -> float:
    """The same for any metric, from the width of the 95 % interval of the difference: 2.8 standard errors."""
    za, zb = _quantiles()
    return (interval[1] - interval[0]) / 2 * (za + zb) / za


def power_note(n: int, discordance: float | None = None, metric: str = "accuracy") -> str:
    """`smallest_difference` as a sentence, with what it rests on; discordance None: `ASSUMED_DISCORDANCE`."""
    if discordance is None:
        basis = f"assuming that exactly one of the two is right on {ASSUMED_DISCORDANCE:.0%} of rows"
        return power_sentence(n, metric, smallest_difference(n), basis)
    basis = f"exactly one of the two is right on {discordance:.1%} of rows"
    return power_sentence(n, metric, smallest_difference(n, discordance), basis)


def power_sentence(n: int, metric: str, difference: float, basis: str) -> str:
    """The words shared by all power notes."""
    return (
        f"with {n:,} test rows a difference in {metric} under {100 * difference:.1f} points cannot be told apart "
        f"({POWER:.0%} power, α = {ALPHA}; {basis})"
    )


def _quantiles() -> tuple[float, float]:
    return float(norm.ppf(1 - ALPHA / 2)), float(norm.ppf(POWER))
