"""One XML file of the collection, read without ever looking outside it.

The reader is Expat with a callback per node. Declarations of entities are refused, which leaves an entity bomb nothing to expand and an
external entity no name; the document type that records point to is not fetched. Entities that only such a document type would
declare (``&eacute;``) are those of HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.entities import html5
from typing import Literal
from xml.parsers import expat

from sortal.errors import DataError

MAX_BYTES = 64 << 20
Field = Literal["title", "abstract", "claims", "description"]
FIELDS: tuple[Field, ...] = ("title", "abstract", "claims", "description")
_NODES: dict[tuple[str, str], Field] = {
    ("tis", "ti"): "title",
    ("abs", "ab"): "abstract",
    ("cls", "cl"): "claims",
    ("txts", "txt"): "description",
}
_BREAKS = frozenset(("p", "br"))  # words on both sides of these are two words
# Windows-1252 that says it is ISO-8859-1: its quotes and dashes lie where ISO-8859-1 has control characters.
_WINDOWS = {
    code: bytes((code,)).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


class RecordError(DataError):
    """A file that gives no row; ``kind`` is the same for all files refused for the same reason."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


@dataclass(frozen=True)
class Text:
    """The text of a node and its ``xml:lang`` in lower case without a region, "" when there is none."""

    text: str
    language: str


@dataclass
class Record:
    """What a file says, codes as they are written.

    Attributes:
        attributes: of the record: ``cy``, ``an``, ``pn``, ``dnum``, ``kind``.
        main: ``ipcs/@mc``, "" when it is missing.
        others: every ``ipcs/ipc/@ic`` that is not empty.
        texts: the nodes of each field that are not empty, in order.
    """

    attributes: Mapping[str, str] = field(default_factory=dict)
    main: str = ""
    others: list[str] = field(default_factory=list)
    texts: dict[Field, list[Text]] = field(default_factory=dict)


def parse_record(data: bytes) -> Record:
    """The record in the bytes of a file.

    Raises:
        RecordError: not well-formed, entities are declared, too large, or not one record.
    """
    if len(data) > MAX_BYTES:
        raise RecordError("too large", f"{len(data):,} bytes are more than {MAX_BYTES:,}")
    if not data.strip():
        raise RecordError("empty file", "it is empty")
    reader = _Reader()
    parser = expat.ParserCreate(_encoding(data))
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.characters
    parser.SkippedEntityHandler = reader.entity
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        where = f"line {error.lineno}, column {error.offset + 1}"
        raise RecordError("malformed XML", f"{where}: {expat.ErrorString(error.code)}") from None
    except (LookupError, ValueError) as error:  # an encoding that Python lacks, or of several bytes
        raise RecordError("malformed XML", f"its encoding cannot be read: {error}") from None
    return reader.record


def _encoding(data: bytes) -> str | None:
    """None follows the file's own declaration; without one the collection is ISO-8859-1 unless it is valid UTF-8."""
    head = data[:200]
    if (
        head.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"))
        or b"encoding" in head.partition(b"?>")[0]
    ):
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "iso-8859-1"
    return None


def _refuse_entity(name: str, *rest: object) -> None:
    del rest
    raise RecordError("declares entities", f"it declares the entity {name[:40]!r}, and records need none")


class _Reader:
    """Expat's callbacks."""

    def __init__(self) -> None:
        self.record = Record()
        self._path: list[str] = []
        self._languages: list[str] = [""]  # xml:lang holds for everything inside
        self._field: Field | None = None
        self._depth = 0
        self._parts: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.lower()
        given = {key.lower(): value.strip() for key, value in attributes.items()}
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        self._languages.append(_primary(given.get("xml:lang", "")) or self._languages[-1])
        if len(self._path) == 1:
            if name != "record":
                raise RecordError("no record", f"its root is <{name[:40]}>, not <record>")
            self.record.attributes = given
        elif self._field:
            self._parts.append("\n" if name in _BREAKS else "")
        elif name == "ipcs":
            self.record.main = self.record.main or given.get("mc", "")
        elif name == "ipc" and parent == "ipcs":
            self.record.others += [given["ic"]] if given.get("ic") else []
        elif found := _NODES.get((parent, name)):
            self._field, self._depth, self._parts = found, len(self._path), []

    def end(self, name: str) -> None:
        if self._field and len(self._path) == self._depth:
            if text := _tidy("".join(self._parts), self._field):
                self.record.texts.setdefault(self._field, []).append(Text(text, self._languages[-1]))
            self._field = None
        elif self._field and name.lower() in _BREAKS:
            self._parts.append("\n")
        self._path.pop()
        self._languages.pop()

    def characters(self, text: str) -> None:
        if self._field:
            self._parts.append(text)

    def entity(self, name: str, is_parameter: bool) -> None:
        if self._field and not is_parameter:
            self._parts.append(html5.get(f"{name};", f"&{name};"))


def _primary(language: str) -> str:
    return language.lower().replace("_", "-").partition("-")[0]


def _tidy(text: str, of: Field) -> str:
    """Single spaces, no empty lines; titles and abstracts on one line, however the file wraps them."""
    text = text.translate(_WINDOWS)
    if of in ("title", "abstract"):
        return " ".join(text.split())
    return "\n".join(line for part in text.splitlines() if (line := " ".join(part.split())))
