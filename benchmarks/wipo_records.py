"""Records in the format of the WIPO-alpha collection with every oddity a reader meets; all text is made up here.

    python -m benchmarks.wipo_records made-up --records 900     # a small collection to try `sortal import wipo-alpha` on

`write_collection` writes a collection of any size, the same for the same seed. The words of a record follow from its subclass, so that
a classifier has something to learn.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

# Subclass → words of our own that its records use more than others do.
TOPICS = {
    "A01B": "plough furrow soil harrow blade tine depth ridge",
    "A01C": "seed sowing drill hopper fertiliser metering row planter",
    "A47J": "kettle pan lid brewing coffee grinder heating handle",
    "B60L": "battery vehicle charging traction inverter voltage regenerative pack",
    "B60R": "bumper airbag seat restraint mirror mounting impact cover",
    "C07D": "compound ring substituted heterocyclic amine solvent yield crystalline",
    "C08F": "polymer monomer polymerisation initiator emulsion chain copolymer molecular",
    "D01D": "filament spinning nozzle fibre drawing melt yarn quench",
    "D01F": "cellulose fibre carbon tow precursor acrylic tenacity strand",
    "E04B": "wall panel floor insulation beam joint building slab",
    "F16H": "gear shaft transmission clutch ratio planetary torque pinion",
    "G01N": "sample sensor detecting analyte optical probe reagent assay",
    "G06F": "processor memory instruction cache data program address interface",
    "H01L": "semiconductor layer substrate gate electrode wafer doped region",
    "H04L": "packet network node router message protocol channel address",
}
COMMON = (
    "a the of and in said wherein which comprising device method means arrangement first second according to invention "
    "is provided with for having at least one portion such that further relates present between each"
)
SUBCLASSES = tuple(TOPICS)


@dataclass(frozen=True)
class Made:
    """What a written record says; ``None`` where the file is broken or lacks it."""

    path: str
    id: str
    main: str | None
    others: tuple[str, ...] = ()
    texts: dict[str, str | None] = field(default_factory=dict)


def words(rng: random.Random, subclass: str, count: int) -> str:
    """``count`` words, about every third one of the subclass's own."""
    return " ".join(rng.choices(_pool(subclass), k=count))


@cache
def _pool(subclass: str) -> list[str]:
    return [*TOPICS[subclass].split() * 2, *COMMON.split()]


def record(
    *,
    an: str,
    mc: str | None,
    ics: tuple[str, ...] = (),
    title: str | None = None,
    abstract: str | None = None,
    claims: str | None = None,
    description: str | None = None,
    language: str = "EN",
    more: str = "",
) -> str:
    """A well-formed record; a field that is None is left out, an empty one is an empty node. ``more`` goes before the end as it is."""
    lines = [
        '<?xml version="1.0" encoding="iso-8859-1"?>',
        '<!DOCTYPE record SYSTEM "../../../../../../ipctraining.dtd">',
        f'<record cy="WO" an={quoteattr(an)} pn="WO{an[-6:]}" dnum="{an[-6:]}" kind="A1">',
        '<ipcs ed="7">' if mc is None else f'<ipcs ed="7" mc={quoteattr(mc)}>',
        *(f"<ipc ic={quoteattr(code)}></ipc>" for code in ics),
        "</ipcs>",
    ]
    for outer, inner, text in (
        ("tis", "ti", title),
        ("abs", "ab", abstract),
        ("cls", "cl", claims),
        ("txts", "txt", description),
    ):
        if text is not None:
            lines.append(f'<{outer}><{inner} xml:lang="{language}">{escape(text)}</{inner}></{outer}>')
    return "\n".join([*lines, more, "</record>", ""])


def write_collection(root: Path, records: int, *, seed: int = 0, description_words: int = 120) -> list[Made]:
    """``records`` well-formed records below ``train`` and ``test`` (two thirds and one third), with the oddities that leave them readable.

    One in five lacks its abstract, one in nine its claims, one in eleven has an empty title; one in three has secondary codes; one in
    four lies a folder deeper; one in seven has a title in French before the English one, one in 17 a secondary code that is none, one in
    23 lies under another subclass than its main code's.
    """
    made = []
    for item, text in _collection(records, seed, description_words):
        path = root / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("iso-8859-1", "xmlcharrefreplace"))
        made.append(item)
    return made


def _collection(records: int, seed: int, description_words: int) -> Iterator[tuple[Made, str]]:
    rng = random.Random(seed)
    for number in range(records):
        subclass = SUBCLASSES[number % len(SUBCLASSES)]
        main = f"{subclass}{rng.randint(1, 40):03}{2 * rng.randint(0, 20):02}"
        others = tuple(
            f"{rng.choice(SUBCLASSES)}{rng.randint(1, 40):03}00"
            for _ in range(rng.choice((0, 0, 0, 0, 1, 3)))
        )
        an = f"EP{1990 + number % 11}{number:06}"
        texts: dict[str, str | None] = {
            "title": "" if number % 11 == 10 else words(rng, subclass, 7).capitalize(),
            "abstract": None if number % 5 == 4 else words(rng, subclass, 60) + " (30 °C, ½ turn).",
            "claims": None
            if number % 9 == 8
            else f"1. {words(rng, subclass, 40)}.\n2. {words(rng, subclass, 20)}.",
            "description": words(rng, subclass, description_words),
        }
        part = "test" if number // len(SUBCLASSES) % 3 == 2 else "train"
        deeper = "batch1/" if number % 4 == 3 else ""
        day = f"{1 + number % 28:02}{1 + number % 12:02}{1998 + number % 5}"
        under = main if number % 23 != 22 else "H04L001" if subclass != "H04L" else "A01B001"
        path = f"{part}/{under[0]}/{under[1:3]}/{under[3]}/{under[4:7]}/{deeper}{an}_{day}.xml"
        text = record(an=an, mc=main, ics=others if number % 17 != 16 else (*others, "H04LX0100"), **texts)
        french = '<tis>\n<ti xml:lang="FR">Un titre à part</ti>\n<ti xml:lang="EN">'
        if number % 7 == 6 and texts["title"]:
            text = text.replace('<tis><ti xml:lang="EN">', french)
        yield Made(path, an, main, others, texts), text


BOMB = '<!ENTITY a "lol">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
# File name → bytes of files that give no row, and the kind of reason that the importer names.
BROKEN: dict[str, tuple[bytes, str]] = {
    "cut_01011999.xml": (record(an="EP1", mc="D01D00106", title="cut")[:-30].encode(), "malformed XML"),
    "empty_01011999.xml": (b"", "empty file"),
    "other_01011999.xml": (b"<patent mc='D01D00106'/>", "no record"),
    "bomb_01011999.xml": (
        f"<?xml version='1.0'?><!DOCTYPE record [{BOMB}]><record an='EP1'><ipcs mc='D01D00106'/>"
        "<tis><ti>&j;</ti></tis></record>".encode(),
        "declares entities",
    ),
    "outside_01011999.xml": (
        b"<?xml version='1.0'?><!DOCTYPE record [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>"
        b"<record an='EP1'><ipcs mc='D01D00106'/><tis><ti>&x;</ti></tis></record>",
        "declares entities",
    ),
    "parameter_01011999.xml": (
        b"<!DOCTYPE record [<!ENTITY % x SYSTEM 'http://localhost:9/x.dtd'> %x;]><record an='EP1'/>",
        "declares entities",
    ),
    "control_01011999.xml": (b"<record an='EP1'><tis><ti>a\x02b</ti></tis></record>", "malformed XML"),
    "unknown_01011999.xml": (b"<?xml version='1.0' encoding='klingon'?><record/>", "malformed XML"),
    "nocode_01011999.xml": (record(an="EP2", mc=None, title="no code").encode(), "no main code"),
    "blank_01011999.xml": (record(an="EP3", mc=" ", title="blank code").encode(), "no main code"),
    "badcode_01011999.xml": (record(an="EP4", mc="Z99Z00106", title="bad").encode(), "invalid main code"),
    "short_01011999.xml": (record(an="EP5", mc="D01D", title="subclass only").encode(), "invalid main code"),
}


def write_broken(folder: Path) -> None:
    """Every file of `BROKEN`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, _) in BROKEN.items():
        (folder / name).write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=900)
    arguments = parser.parse_args()
    write_collection(arguments.folder, arguments.records)
    write_broken(arguments.folder / "train" / "broken")


if __name__ == "__main__":
    main()
