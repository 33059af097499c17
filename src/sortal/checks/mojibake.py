"""UTF-8 that was read as cp1252 or Latin-1 ("cafÃ©", "donâ€™t"): found without false alarms, and undone.

Only sequences that are complete UTF-8 count, and of those only what real text does not hold by chance: "Ã©" or "â€™" alone,
but Cyrillic, Greek, Hebrew, Arabic or East Asian letters ("Ð¿Ñ€") only when at least two stand together, and a single
Latin letter ("Å‚") only behind a small letter, where no real text has a capital.
"""

from __future__ import annotations

import re
from contextlib import suppress

_TIMES = 3  # text that was damaged twice ("Ã¢â‚¬â„¢") is repaired twice


def _as_read() -> dict[int, str]:
    """Byte from 0x80 on → the characters it may have become: cp1252's, and Latin-1's."""
    found = {}
    for byte in range(0x80, 0x100):
        characters = {chr(byte)}
        with suppress(UnicodeDecodeError):  # cp1252 leaves five bytes undefined
            characters.add(bytes([byte]).decode("cp1252"))
        found[byte] = "".join(sorted(characters))
    return found


_CHARACTERS = _as_read()
_BYTE = {character: byte for byte, characters in _CHARACTERS.items() for character in characters}


def _one_of(first: int, last: int) -> str:
    return "[" + re.escape("".join(_CHARACTERS[byte] for byte in range(first, last + 1))) + "]"


_NEXT = _one_of(0x80, 0xBF)
# Latin-1 letters and signs, general punctuation with the euro and trade mark signs, the byte order mark and U+FFFD, emoji.
_ALONE = "|".join(
    (
        f"[ÂÃ]{_NEXT}",
        f"â{_one_of(0x80, 0x84)}{_NEXT}",
        f"ï{_one_of(0xBB, 0xBB)}{_one_of(0xBF, 0xBF)}",
        f"ï{_one_of(0xBF, 0xBF)}{_one_of(0xBD, 0xBD)}",
        f"ð{_one_of(0x9F, 0x9F)}{_NEXT}{_NEXT}",
    )
)
# Latin Extended, Greek, Cyrillic, Hebrew, Arabic; Indic and East Asian scripts.
_TOGETHER = f"[Ä-Ü]{_NEXT}|[à-ï]{_NEXT}{_NEXT}"
_SEQUENCES = re.compile(f"(?:{_ALONE}|{_TOGETHER})+")
_CERTAIN = re.compile(_ALONE)
# cp1252's own characters in the place of Latin-1's control characters, which no text holds on purpose.
_CONTROL = re.compile("[\x80-\x9f]")
_CP1252 = {
    byte: characters.replace(chr(byte), "") for byte, characters in _CHARACTERS.items() if byte <= 0x9F
}


def is_damaged(text: str) -> bool:
    """Whether `repair` would change the text."""
    return not text.isascii() and repair(text) != text


def repair(text: str) -> str:
    """The text with every such sequence as the characters that were meant, and C1 control characters as cp1252's."""
    for _ in range(_TIMES):
        repaired = _SEQUENCES.sub(_decoded, text)
        if repaired == text:
            break
        text = repaired
    return _CONTROL.sub(lambda match: _CP1252[ord(match[0])] or match[0], text)


def _decoded(match: re.Match[str]) -> str:
    try:
        meant = bytes(_BYTE[character] for character in match[0]).decode("utf-8")
    except UnicodeDecodeError:  # overlong forms and surrogates are no UTF-8 either
        return match[0]
    behind = match.string[match.start() - 1 : match.start()]
    inside_word = len(match[0]) == 2 and "a" <= behind <= "z"
    return meant if len(meant) > 1 or inside_word or _CERTAIN.fullmatch(match[0]) else match[0]
