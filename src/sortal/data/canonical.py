"""One spelling per label: numbers, booleans and stray spaces."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal

from sortal.data.problems import counted, listed
from sortal.data.records import Say
from sortal.data.textcells import clean

_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?")
_INTEGRAL = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_NULLS = {"null", "nan", "none", "n/a", "na", "<na>", "nil", "-"}
_BOOLEANS = {"true", "false"}
_JOINERS = "\u200c\u200d"  # they change how letters and emoji beside them look
Spelling = Literal["numbers", "booleans", "names"]


def spelling_of(values: Mapping[tuple[type, Any], int]) -> Spelling:
    """What the labels of a column are, taken together: another file of the same labels may hold some of them only."""
    distinct = {_written(value).strip() for _, value in values}
    if all(map(_NUMBER.fullmatch, distinct)):
        return "numbers"
    return "booleans" if {name.casefold() for name in distinct} <= _BOOLEANS else "names"


def canonical_names(
    values: Mapping[tuple[type, Any], int],
    where: str,
    say: Say,
    *,
    keep: bool = False,
    spelling: Spelling | None = None,
) -> dict[tuple[type, Any], str]:
    """Label string for every distinct value.

    In a column of numbers "1", 1 and 1.0 are one label ("1"); numbers that are not whole are left as written, and so is
    "01". In a text column only the spaces around a label go, and that is said; spellings that differ in case only, or look
    the same, stay different labels, with a warning. Booleans become "true" / "false".

    Args:
        values: (type, value) → rows.
        keep: the names are declared; change nothing.
        spelling: of the file whose labels these are; None: as `spelling_of` these.
    """
    names = {key: _written(key[1]) for key in values}
    if keep:
        return names
    stripped = {key: name.strip() for key, name in names.items()}
    spaced = [key for key, name in names.items() if stripped[key] != name]
    if spaced:
        rows = sum(values[key] for key in spaced)
        say(
            f"{where}: spaces around labels removed in {counted(rows, 'row')} (for example {names[spaced[0]]!r})."
        )
    distinct = set(stripped.values())
    spelling = spelling or spelling_of(values)
    if spelling == "numbers":
        names = {key: _whole(name) for key, name in stripped.items()}
        merged = sorted(name for name in distinct if _whole(name) != name)
        if merged and any(isinstance(key[1], str) for key in values):
            say(f"{where}: numbers such as {merged[0]!r} are the label {_whole(merged[0])!r}.")
        return names
    if spelling == "booleans":
        return {
            key: name.casefold() if name.casefold() in _BOOLEANS else name for key, name in stripped.items()
        }
    _warn_of_twins(distinct, where, say)
    if null := sorted(name for name in distinct if name.casefold() in _NULLS):
        say(
            f"warning: {where}: {listed(null)} is read as a label; leave the cell empty if it means no label."
        )
    return stripped


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return clean(str(value))[0]


def _whole(name: str) -> str:
    match = _INTEGRAL.fullmatch(name)
    whole = match[1] if match else name
    return "0" if whole == "-0" else whole


def _warn_of_twins(names: set[str], where: str, say: Say) -> None:
    by_case: dict[str, list[str]] = defaultdict(list)
    by_look: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_case[name.casefold()].append(name)
        by_look[look(name)].append(name)
    if found := [group for group in by_case.values() if len(group) > 1]:
        shown = "; ".join(listed(group) for group in found[:5])
        say(
            f"warning: {where}: labels that differ only in upper and lower case stay different labels: {shown}."
        )
    if found := [group for group in by_look.values() if len(group) > 1]:
        shown = "; ".join(", ".join(map(ascii, group)) for group in found[:5])
        say(
            f"warning: {where}: labels that look the same are written in different characters and stay different labels: {shown}."
        )


def look(name: str) -> str:
    """What a label looks like: without invisible characters, in composed letters and plain spaces."""
    composed = unicodedata.normalize("NFC", name)
    seen = "".join(c for c in composed if c in _JOINERS or unicodedata.category(c) != "Cf")
    return " ".join(seen.split())
