"""Seconds, counts and bytes as people read them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """``0.4 s``, ``58 s``, ``12 min``, ``3.2 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def count(value: float) -> str:
    """``7.3``, ``950``, ``2.4 M``."""
    for unit, scale in ((" G", 1e9), (" M", 1e6), (" k", 1e4)):
        if value >= scale:
            return f"{value / (1e3 if unit == ' k' else scale):,.1f}{unit}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def size(bytes_: float) -> str:
    """``9.8 MB``, ``1.2 GB``."""
    for unit in ("B", "kB", "MB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} {unit}" if unit == "B" or bytes_ >= 100 else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} GB"
