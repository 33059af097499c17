"""Which encoding a text file is in, decided from all of its bytes before the first row is read.

UTF-8 is accepted only when the whole file is UTF-8, cp1252 only when the whole file is not UTF-8 at all; a file
that is mostly UTF-8 with a stray byte is refused, because reading it as either would change its text silently.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from sortal.data.records import Say
from sortal.errors import DataError

_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NON_ASCII = re.compile("[^\x00-\x7f]")
_ESCAPED = re.compile("[\udc80-\udcff]")
_CONVERT = "convert the file to UTF-8 (for example with `iconv -t UTF-8`) and try again"


@dataclass(frozen=True)
class TextFile:
    """A text file (gzip when its name ends in .gz) with its encoding decided."""

    path: Path
    encoding: str

    def open(self) -> TextIO:
        """A strict text stream; line ends are kept as they are."""
        return io.TextIOWrapper(open_binary(self.path), encoding=self.encoding, errors="strict", newline="")


def open_binary(path: Path) -> BinaryIO:
    """The file's bytes, decompressed when the name ends in .gz."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of the file in order.

    Raises:
        DataError: the file cannot be read or its gzip stream is damaged.
    """
    try:
        with open_binary(path) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is not a complete gzip file ({error})", "copy or compress it again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}", "check the path and its permissions"
        ) from None


def detect(path: Path, say: Say) -> TextFile:
    """Decide the encoding of ``path`` from a streaming pass over all its bytes.

    Raises:
        DataError: empty file; neither UTF-8, UTF-16 nor cp1252; or a mixture, with the line of the first bad byte.
    """
    head = next(chunks(path), b"")
    if not head.strip():
        raise DataError(f"{path} is empty", "give a file with a header and at least one row")
    encoding = _from_head(head)
    if encoding is None:
        bad = _first_error(path, "utf-8")
        if bad is None:
            return TextFile(path, "utf-8")
        _refuse_mixture(path, bad)
        encoding = "cp1252"
    bad = _first_error(path, encoding)
    if bad is not None:
        raise DataError(
            f"{path}, line {bad[0]:,}: byte 0x{bad[1]:02x} is not valid {encoding.upper()}", _CONVERT
        )
    if encoding == "cp1252":
        say(
            f"warning: {path} is not UTF-8; it was read as cp1252 (Western European). Convert it to UTF-8 if letters look wrong."
        )
    elif encoding.startswith("utf-16-"):
        say(
            f"warning: {path} looks like UTF-16 without a byte order mark and was read as {encoding.upper()}."
        )
    return TextFile(path, encoding)


def _from_head(head: bytes) -> str | None:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    sample = head[:4096]
    if len(sample) >= 8:
        even, odd = sample[0::2].count(0) / len(sample), sample[1::2].count(0) / len(sample)
        if odd > 0.3 and even < 0.05:
            return "utf-16-le"
        if even > 0.3 and odd < 0.05:
            return "utf-16-be"
    return None


def _first_error(path: Path, encoding: str) -> tuple[int, int] | None:
    """(line, byte) of the first byte that does not decode, or None."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line = 1
    try:
        for chunk in chunks(path):
            line += decoder.decode(chunk).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        decoded = error.object[: error.start].decode(encoding, errors="replace")
        return line + decoded.count("\n"), error.object[error.start]
    return None


def _refuse_mixture(path: Path, bad: tuple[int, int]) -> None:
    valid = invalid = visible = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in chunks(path):
        text = decoder.decode(chunk)
        escaped = len(_ESCAPED.findall(text))
        non_ascii = len(_NON_ASCII.findall(text))
        invalid += escaped
        valid += non_ascii - escaped
        visible += len(text) - non_ascii - text.count(" ")
    high = invalid + valid
    # "É»" is the odd cp1252 pair that is also UTF-8; a tenth leaves room for it.
    if valid > 0.1 * invalid:
        raise DataError(
            f"{path} is UTF-8 except from line {bad[0]:,} (byte 0x{bad[1]:02x}): it mixes encodings", _CONVERT
        )
    if high >= 20 and high > 0.25 * (high + visible):
        raise DataError(
            f"{path} is not UTF-8 (line {bad[0]:,}, byte 0x{bad[1]:02x}) and has too many non-ASCII bytes for cp1252",
            _CONVERT,
        )
