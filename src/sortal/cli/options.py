"""Values of options."""

from __future__ import annotations

from sortal.errors import ConfigError


def comma_list(values: list[str] | None) -> list[str] | None:
    """``["a,b", "c"]`` → ``["a", "b", "c"]``; None when nothing was given."""
    return [part for value in values for part in value.split(",") if part] if values else None


def budgets(values: list[str] | None) -> dict[str, int | str] | None:
    """``["title=all", "claim=200"]`` → ``{"title": "all", "claim": 200}``; None when nothing was given.

    Raises:
        ConfigError: no budget, or a column twice.
    """
    if not values:
        return None
    found: dict[str, int | str] = {}
    for value in values:
        name, _, budget = value.rpartition("=")
        if not name or not budget:
            raise ConfigError(
                f"--section {value!r} is not COLUMN=BUDGET", "write --section title=all, =200 or =rest"
            )
        if name in found:
            raise ConfigError(f"--section names column {name!r} twice", "name each column once")
        found[name] = int(budget) if budget.isdecimal() else budget
    return found
