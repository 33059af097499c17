"""How labels are worded in prompts and answers: as they are, as words, as given in a file, or as one-token codes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from sortal.data.problems import nearest
from sortal.errors import ConfigError

NAMED = ("words", "label", "codes")


@dataclass(frozen=True)
class Verbalizer:
    """One answer and one line of the label list per label, in label-space order.

    answers: what the model says. listed: what the prompt's list shows for it.
    """

    answers: tuple[str, ...]
    listed: tuple[str, ...]


def make_verbalizer(
    setting: str,
    names: tuple[str, ...],
    is_one_token: Callable[[str], bool],
    said: tuple[str, ...] | None = None,
) -> Verbalizer:
    """Wordings of ``names``.

    Args:
        setting: ``words`` (underscores and hyphens between letters become spaces), ``label`` (unchanged), ``codes`` (one-token codes, the list shows
            what they stand for), or a CSV / JSON file with label, wording and, optionally, description.
        is_one_token: whether a string is a single token where the answer stands.
        said: what is worded in place of the names, of labels in a tree the way to each.

    Raises:
        ConfigError: equal wordings, an unreadable file, a missing label, too few codes.
    """
    said = said or names
    if setting == "label":
        return _checked(names, said, said)
    words = tuple(worded(name) for name in said)
    if setting == "words":
        return _checked(names, words, words)
    if setting == "codes":
        codes = _codes(len(names), is_one_token)
        return Verbalizer(codes, tuple(f"{code}: {word}" for code, word in zip(codes, words, strict=True)))
    given = _given(setting, names)
    answers = tuple(given[name][0] or word for name, word in zip(names, words, strict=True))
    listed = tuple(
        f"{answer}: {given[name][1]}" if given[name][1] else answer
        for name, answer in zip(names, answers, strict=True)
    )
    return _checked(names, answers, listed)


def label_texts(setting: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """What each label says, for a model that reads labels and need not answer with them; equal ones are allowed.

    Args:
        setting: as for `make_verbalizer`, without ``codes``; of a file, a label's wording and description, or the one it has.

    Raises:
        ConfigError: an unreadable file or a missing label.
    """
    if setting == "label":
        return names
    if setting == "words":
        return tuple(worded(name) for name in names)
    given = _given(setting, names)
    return tuple(": ".join(filter(None, given[name])) or worded(name) for name in names)


def _given(setting: str, names: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Wording and description of each label; a file may know more labels than the data has."""
    given = _read(Path(setting))
    missing = [name for name in names if name not in given]
    if missing:
        others = [name for name in given if name not in names]
        raise ConfigError(
            f"{setting} has no row for {len(missing)} labels of the data, {missing[0]!r} first{nearest(missing[0], others)}",
            "add a row for each, spelt as in the data",
        )
    return given


def _checked(names: tuple[str, ...], answers: tuple[str, ...], listed: tuple[str, ...]) -> Verbalizer:
    for name, answer in zip(names, answers, strict=True):
        if not answer.strip():
            raise ConfigError(
                f"label {name!r} is worded as nothing but white space",
                "give it a wording in a verbalizer file",
            )
        twin = answers.index(answer)
        if names[twin] != name:
            raise ConfigError(
                f"labels {names[twin]!r} and {name!r} have the same wording {answer!r}",
                "set verbalizer to 'label', or give a file with a wording of its own for each",
            )
    return Verbalizer(answers, listed)


def worded(name: str) -> str:
    """A label's name as words: underscores and hyphens between letters become spaces."""
    # Only between letters: a code such as H01L-21 or 1-2 keeps its hyphens.
    found = re.sub(r"(?<=[^\W\d_])[_-](?=[^\W\d_])|_+", " ", name)
    return " ".join(found.split()) or name


def _codes(n: int, is_one_token: Callable[[str], bool]) -> tuple[str, ...]:
    candidates = [*ascii_uppercase, *("".join(p) for p in product(ascii_uppercase, repeat=2))]
    candidates += ["".join(p) for p in product(ascii_uppercase, ascii_lowercase)]
    candidates += ["".join(p) for p in product(ascii_lowercase, repeat=2)]
    found = [code for code in candidates if is_one_token(code)][:n]
    if len(found) < n:
        raise ConfigError(
            f"verbalizer 'codes': this tokenizer has {len(found)} one-token codes, the task has {n} labels",
            "use verbalizer 'words' or 'label', or --shortlist",
        )
    return tuple(found)


def _once(path: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for label, value in pairs:
        if label in found:
            raise ConfigError(f"{path}: label {label!r} occurs twice", "keep one wording per label")
        found[label] = value
    return found


def _read(path: Path) -> dict[str, tuple[str, str]]:
    """label → (wording, description); both may be empty."""
    fix = "give a CSV with columns label, wording, description, or a JSON object label: wording"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"verbalizer {str(path)!r} is neither {', '.join(NAMED)} nor a readable file ({error})", fix
        ) from None
    if path.suffix.lower() == ".json":
        try:
            values = json.loads(text, object_pairs_hook=partial(_once, path))
        except ValueError as error:
            raise ConfigError(f"{path} is not valid JSON: {error}", fix) from None
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise ConfigError(f"{path} is not one JSON object of strings", fix)
        return {str(k): (v.strip(), "") for k, v in values.items()}
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not rows or "label" not in rows[0] or not {"wording", "description"} & set(rows[0]):
        raise ConfigError(f"{path} lacks the column label, or both wording and description", fix)
    found: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, start=1):
        label = row["label"]
        if label is None:
            raise ConfigError(f"{path}, row {number} has no label", fix)
        if None in row:
            raise ConfigError(
                f"{path}, row {number} has more cells than the header", "quote cells with commas"
            )
        if label in found:
            raise ConfigError(f"{path}, row {number}: label {label!r} occurs twice", "keep one row per label")
        found[label] = ((row.get("wording") or "").strip(), (row.get("description") or "").strip())
    return found
