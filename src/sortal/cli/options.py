"""Values of options that several verbs share."""

from __future__ import annotations


def comma_list(values: list[str] | None) -> list[str] | None:
    """``["a,b", "c"]`` → ``["a", "b", "c"]``; None when nothing was given."""
    return [part for value in values for part in value.split(",") if part] if values else None
