"""Symbols of the International Patent Classification (IPC): read, checked, cut to a level, written.

A symbol comes **packed** (``D01D00106``: three digits of main group, then the subgroup), **long** (``D01D0001060000``: four digits, then
six filled up with zeros) or **written** (``D01D 1/06``), in any case and spacing, and may end at any level. Subgroup ``00`` is the main
group itself, so ``D01D001``, ``D01D00100`` and ``D01D 1/00`` are one symbol. Digits of a subgroup read like decimals: 31/4150 is 31/415.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from sortal.data.problems import counted
from sortal.errors import DataError

Level = Literal["section", "class", "subclass", "main_group", "subgroup"]
LEVELS: tuple[Level, ...] = ("section", "class", "subclass", "main_group", "subgroup")
_SECTIONS = "ABCDEFGH"
_PACKED_LIMIT = 999  # the largest main group that three digits hold


@dataclass(frozen=True)
class IpcSymbol:
    """A valid symbol; make it with `parse`.

    Attributes:
        section: one letter, A to H.
        class_number: two digits, or "" for a section.
        subclass_letter: one letter, or "" above the subclass.
        main_group: 1 to 9999, or 0 above the main group.
        subgroup: two to six digits, ``00`` for the main group itself; "" above it.
    """

    section: str
    class_number: str = ""
    subclass_letter: str = ""
    main_group: int = 0
    subgroup: str = ""

    @property
    def level(self) -> Level:
        """How deep the symbol goes."""
        if self.main_group:
            return "main_group" if self.subgroup == "00" else "subgroup"
        return "subclass" if self.subclass_letter else "class" if self.class_number else "section"

    @property
    def packed(self) -> str:
        """``D01D00106``, or as far as the symbol goes (``D01D``); long where the main group has four digits."""
        if not self.main_group:
            return self._subclass
        return self.long if self.main_group > _PACKED_LIMIT else f"{self.prefix('main_group')}{self.subgroup}"

    @property
    def long(self) -> str:
        """``D01D0001060000``, or as far as the symbol goes."""
        return (
            f"{self._subclass}{self.main_group:04}{self.subgroup:0<6}" if self.main_group else self._subclass
        )

    @property
    def written(self) -> str:
        """``D01D 1/06``, or as far as the symbol goes."""
        return f"{self._subclass} {self.main_group}/{self.subgroup}" if self.main_group else self._subclass

    def prefix(self, level: Level) -> str:
        """The label of this symbol at ``level``: ``D``, ``D01``, ``D01D``, ``D01D001`` or, packed, all of it.

        Raises:
            DataError: the symbol ends above that level.
        """
        if LEVELS.index(level) > LEVELS.index("subgroup" if self.main_group else self.level):
            raise DataError(f"{self.written} has no {level.replace('_', ' ')}", "give a longer symbol")
        if level == "subgroup":
            return self.packed
        if level == "main_group":
            return f"{self._subclass}{self.main_group:03}"
        return self._subclass[: {"section": 1, "class": 3, "subclass": 4}[level]]

    @property
    def _subclass(self) -> str:
        return f"{self.section}{self.class_number}{self.subclass_letter}"


def parse(symbol: str) -> IpcSymbol:
    """The symbol in ``symbol``.

    Raises:
        DataError: it is none, with the reason.
    """
    compact = "".join(symbol.split())
    if not compact:
        _refuse(symbol, "it is empty")
    if not compact.isascii():
        _refuse(symbol, "it has letters or digits outside ASCII")
    compact = compact.upper()
    section, number, letter = compact[0], compact[1:3], compact[3:4]
    if section not in _SECTIONS:
        _refuse(symbol, f"section {section!r} is not one of A to H")
    if not number:
        return IpcSymbol(section)
    if not re.fullmatch("[0-9]{2}", number) or number == "00":
        _refuse(symbol, f"class {number!r} is not two digits from 01 to 99")
    if not letter:
        return IpcSymbol(section, number)
    if not letter.isalpha():
        _refuse(symbol, f"subclass {letter!r} is not a letter")
    if len(compact) == 4:
        return IpcSymbol(section, number, letter)
    # What follows the subclass, with its spaces: "1 06" must not become main group 106.
    behind = re.sub(r"^(?:\s*\S){4}", "", symbol).strip()
    group, subgroup = _written(symbol, behind) if "/" in behind else _digits(symbol, behind)
    if not int(group):
        _refuse(symbol, "main groups begin at 1")
    return IpcSymbol(section, number, letter, int(group), subgroup[:2] + subgroup[2:].rstrip("0"))


def _written(symbol: str, behind: str) -> tuple[str, str]:
    found = re.fullmatch(r"([0-9]{1,4})\s*/\s*([0-9]{2,6})", behind)
    if not found:
        _refuse(
            symbol, f"{behind!r} is not a main group of 1 to 4 digits, a slash and 2 to 6 digits of subgroup"
        )
    return found[1], found[2]


def _digits(symbol: str, behind: str) -> tuple[str, str]:
    if not re.fullmatch("[0-9]+", behind):
        _refuse(symbol, f"{behind!r} behind the subclass is neither digits nor 1/06")
    n = len(behind)
    if n == 3 or 5 <= n <= 9:
        return behind[:3], behind[3:] or "00"
    if n in (4, 10):
        return behind[:4], behind[4:] or "00"
    _refuse(
        symbol,
        f"{behind!r} has {counted(n, 'digit')}: a main group has 3, with its subgroup 5 to 9, or long 4 and 10",
    )


def _refuse(symbol: str, why: str) -> NoReturn:
    shown = symbol if len(symbol) <= 40 else f"{symbol[:40]}…"
    raise DataError(f"{shown!r} is no IPC symbol: {why}", "write it like D01D00106 or D01D 1/06")
