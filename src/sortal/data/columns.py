"""Which columns hold the text and the labels: as told, or found by name and said aloud."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sortal.data.problems import listed, nearest
from sortal.data.records import Batch, RecordSource, Say
from sortal.data.textcells import check_template, is_missing
from sortal.errors import ConfigError, DataError

_TITLES = ("title", "headline", "subject", "news_title")
_BODIES = (
    "sentence", "content", "contents", "body", "message", "review", "utterance", "question", "query", "comment",
    "document", "abstract", "description", "tweet", "post", "email", "sms", "article", "summary", "input", "prompt",
    "statement", "answer", "response", "premise", "hypothesis", "passage", "context", "phrase", "narrative", "complaint", "transcript", "feedback", "paragraph",
)  # fmt: skip
_LABELS = (
    "category", "categories", "intent", "intents", "class", "classes", "target", "targets", "topic", "topics", "tag", "tags",
    "sentiment", "emotion", "emotions", "genre", "genres", "rating", "stars", "gold", "y", "annotation", "annotations",
    "product", "department", "subject_area",
)  # fmt: skip
_LABEL_IDS = ("label_id", "class_id", "category_id", "intent_id", "target_id")
_FIRST_LABELS = ("label_text", "label_name", "label", "labels")
_INDEX = re.compile(
    r"|unnamed: ?\d+|__index_level_\d+__|index|idx|row|row_?id|row_?number|uu?id|id|(?!(?:label|class|category|intent|target)_).*_id|key"
)
_FLAGS = {"0", "1", "0.0", "1.0", "true", "false"}


@dataclass(frozen=True)
class Selection:
    """The chosen columns; ``label`` and ``label_columns`` are empty when no labels are read."""

    text: tuple[str, ...]
    label: str | None = None
    label_columns: tuple[str, ...] = ()
    id: str | None = None
    group: str | None = None

    @property
    def columns(self) -> list[str]:
        """Every column to read, without repeats."""
        names = [*self.text, self.label, *self.label_columns, self.id, self.group]
        return list(dict.fromkeys(name for name in names if name is not None))


def select(
    source: RecordSource,
    peek: Batch,
    *,
    text: Sequence[str],
    text_template: str | None,
    label: str | None,
    label_columns: Sequence[str],
    id: str | None,
    group: str | None,
    need_labels: bool,
    say: Say,
) -> Selection:
    """Check the named columns against the file, and find by name those that were not named.

    Raises:
        DataError: a named column is missing (with the nearest one), or the columns cannot be told apart.
        ConfigError: one column is named for text and labels.
    """
    text = check_template(text_template, text)
    if not need_labels:
        label_hint, label, label_columns = label, None, ()
    else:
        label_hint = label
    named = [
        *text,
        *([label] if label else []),
        *label_columns,
        *([id] if id else []),
        *([group] if group else []),
    ]
    if id and not need_labels and id not in source.all_columns():
        say(f"{source.name} has no id column {id!r}; rows are numbered instead.")
        named.remove(id)
        id = None
    _require(source, named)
    both = [name for name in text if name == label or name in label_columns]
    if both:
        raise ConfigError(f"column {both[0]!r} is named as text and as label", "name two different columns")
    if not text and not label and need_labels and not label_columns:
        return _guess_both(source, peek, id, group, say)
    if not text:
        taken = {name for name in (label, label_hint, *label_columns, id, group) if name}
        text = _guess_text(source, peek, taken)
        _told(say, source, "text", text)
    if need_labels and not label and not label_columns:
        label, label_columns = _guess_label(
            source, peek, {*text, *([id] if id else []), *([group] if group else [])}
        )
        _told(say, source, "label", (label,) if label else label_columns)
    return Selection(tuple(text), label, tuple(label_columns), id, group)


def _guess_both(source: RecordSource, peek: Batch, id: str | None, group: str | None, say: Say) -> Selection:
    taken = {name for name in (id, group) if name}
    try:
        text = _guess_text(source, peek, taken | set(_by_name(_free(source, taken), _FIRST_LABELS)))
        label, wide = _guess_label(source, peek, taken | set(text))
    except DataError:
        pair = _two_columns(_free(source, taken), peek)
        if pair is None:
            raise
        text, label, wide = (pair[0],), pair[1], ()
        _refuse_headerless(source, peek, pair[1])
    _told(say, source, "text", text)
    _told(say, source, "label", (label,) if label else wide)
    return Selection(text, label, wide, id, group)


def _guess_text(source: RecordSource, peek: Batch, taken: set[str]) -> tuple[str, ...]:
    free = [name for name in _free(source, taken) if _looks_textual(peek.columns.get(name, []))]
    titles = _by_name(free, _TITLES) or [
        name for name in free if _plain(name).endswith(("_title", "_headline"))
    ]
    bodies = _by_name(free, ("text",)) or _by_name(free, _BODIES)
    if not bodies:
        bodies = [name for name in free if "text" in re.split("[_. ]", _plain(name)) and name not in titles]
    if len(bodies) == 1 and len(titles) <= 1:
        return (*titles, *bodies)
    if not bodies and len(titles) == 1:
        return (titles[0],)
    candidates = [name for name in free if _plain(name) not in (*_FIRST_LABELS, *_LABELS)]
    if not bodies and not titles and len(candidates) == 1:
        return (candidates[0],)
    raise _ambiguous(source, "text", bodies + titles)


def _guess_label(source: RecordSource, peek: Batch, taken: set[str]) -> tuple[str | None, tuple[str, ...]]:
    free = _free(source, taken)
    first = [name for wanted in _FIRST_LABELS for name in free if _plain(name) == wanted]
    if first and not {"label", "labels"} <= {_plain(name) for name in first}:
        return first[0], ()
    others = first or _by_name(free, _LABELS) or _by_name(free, _LABEL_IDS)
    if len(others) == 1:
        return others[0], ()
    flags = tuple(name for name in free if _all_flags(peek.columns.get(name, [])))
    if not others and len(flags) >= 2:
        return None, flags
    if not others and len(free) == 1:
        _refuse_headerless(source, peek, free[0])
        return free[0], ()
    raise _ambiguous(source, "label", others)


def _two_columns(free: list[str], peek: Batch) -> tuple[str, str] | None:
    """(text, label) when of two columns one has few, short values that repeat and the other is longer."""
    if len(free) != 2:
        return None
    measured = []
    for name in free:
        values = [str(value) for value in peek.columns.get(name, []) if not is_missing(value)]
        if not values:
            return None
        measured.append((sum(map(len, values)) / len(values), len(set(values)) / len(values), name))
    label, text = sorted(measured)
    repeats = label[1] <= 0.5 or (peek.size < 20 and label[1] < 1)
    return (text[2], label[2]) if repeats and label[1] <= text[1] and label[0] <= 60 else None


def _refuse_headerless(source: RecordSource, peek: Batch, label: str) -> None:
    """A label column whose name is one of its own values: the first line is a row, not a header."""
    if label in [str(value).strip() for value in peek.columns.get(label, [])]:
        raise DataError(
            f"{source.name} seems to have no header line: it starts with {listed(source.columns, 5)}, "
            f"and {label!r} also occurs as a label",
            "add a header line such as text,label",
        )


def _free(source: RecordSource, taken: set[str]) -> list[str]:
    return [name for name in source.columns if name not in taken and not _INDEX.fullmatch(_plain(name))]


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _by_name(columns: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [name for name in columns if _plain(name) in wanted]


def _looks_textual(values: Sequence[Any]) -> bool:
    present = [value for value in values if not is_missing(value)]
    return not present or all(isinstance(value, str) for value in present)


def _all_flags(values: Sequence[Any]) -> bool:
    present = {str(value).strip().casefold() for value in values if not is_missing(value)} - {""}
    return bool(present) and present <= _FLAGS


def _require(source: RecordSource, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in source.columns]
    if not missing:
        return
    known = source.all_columns()
    missing = [name for name in missing if name not in known]
    if missing:
        what = f"column {missing[0]!r}" if len(missing) == 1 else f"columns {listed(missing)}"
        hint = nearest(missing[0], known)
        raise DataError(
            f"{source.name} has no {what}{hint}; its columns are {listed(known)}", "name existing columns"
        )


def _ambiguous(source: RecordSource, role: str, candidates: Sequence[str]) -> DataError:
    flag = "--text COLUMN" if role == "text" else "--label COLUMN (or --label-columns A,B,…)"
    why = (
        f"{listed(list(dict.fromkeys(candidates)))} could each be it"
        if candidates
        else "no column name says so"
    )
    return DataError(
        f"{source.name}: it is not clear which column holds the {role}: {why}; the columns are {listed(source.columns)}",
        f"say {flag}; if these are not column names, add a header line",
    )


def _told(say: Say, source: RecordSource, role: str, names: Sequence[str]) -> None:
    columns = "column" if len(names) == 1 else "columns"
    say(f"{source.name}: {role} taken from {columns} {listed(names, 12)}.")
