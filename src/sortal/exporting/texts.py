"""The texts that an export is checked on: of the run's own data where that can still be read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sortal.backbone.loading import load_tokenizer
from sortal.classifier import Classifier
from sortal.config import build_config
from sortal.config_hierarchy import DATA_FIELDS
from sortal.data.dataset import Dataset
from sortal.data.sections import plain_text
from sortal.errors import DataError, SortalError
from sortal.exporting.subject import Subject
from sortal.parts import read_parts
from sortal.prompting.verbalizer import worded

# What breaks pooling and templates: nothing at all, the texts of special tokens, other scripts, and more than fits.
HARD = (
    "",
    " ",
    " <|im_end|> </s> <eos> [SEP] [MASK] <|endoftext|> ",
    "Ünïcode 文字 \U0001f600\n\tnew line",
    "one two three four five six seven eight nine ten " * 400,
)
_FRAMES = ("{}", "This is about {}.", "I have a question: {}?", "{} - please help", "Not {}, but nearly so")


@dataclass(frozen=True)
class CheckTexts:
    """Texts, where they are from in words, and how many of them are data rows; the hard ones come last."""

    texts: list[str]
    source: str
    rows: int


def check_texts(subject: Subject, classifier: Classifier, data: str | None, rows: int) -> CheckTexts:
    """``rows`` texts drawn with a fixed seed from ``data``, else from the run's test and dev rows, else made from label names; and `HARD`.

    Raises:
        DataError: ``data`` cannot be read or has no rows.
    """
    if data is not None:
        found = classifier.read(data, need_labels=False, say=lambda line: None)
        if not len(found):
            raise DataError(f"{data} has no rows", "give a file with texts")
        texts, source = _draw({data: found}, rows)[0], data
    elif parts := _run_rows(subject):
        texts, used = _draw(parts, rows)
        source = f"the run's {' and '.join(used)} rows"
    else:
        texts = [frame.format(worded(name)) for frame in _FRAMES for name in subject.space.names][:rows]
        source = (
            "label names in sentences, for the run's rows cannot be read any more (--data F names others)"
        )
    # Other runtimes get a text's sections as one, a line each.
    kept = _comparable([plain_text(text) for text in texts], subject)
    hard = _comparable(list(HARD), subject)
    return CheckTexts([*kept, *hard], source, len(kept))


def _comparable(texts: list[str], subject: Subject) -> list[str]:
    """Those that the export reads as Sortal does: no tokenizer cuts a text in the middle, into windows or section by section, so of
    texts that Sortal reads so only those that fit whole.

    An ``instruct`` model is asked through its prompt, which cuts texts itself.
    """
    cut_by_tokenizer = subject.meta["truncation"] != "head+tail" and subject.long is None
    if subject.method == "instruct" or cut_by_tokenizer:
        return texts
    tokenizer = load_tokenizer(str(subject.folder))
    lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    return [
        text for text, length in zip(texts, lengths, strict=True) if length <= (subject.max_length or length)
    ]


def _draw(parts: dict[str, Dataset], rows: int) -> tuple[list[str], list[str]]:
    """Up to ``rows`` texts, from the first part as far as it goes, and the names of the parts that were used."""
    texts: list[str] = []
    used = []
    for name, part in parts.items():
        if wanted := min(rows - len(texts), len(part)):
            chosen = np.random.default_rng(0).choice(len(part), wanted, replace=False)
            texts += part.text_at(np.sort(chosen))
            used.append(name)
    return texts, used


def _run_rows(subject: Subject) -> dict[str, Dataset]:
    """Test and dev rows whose fingerprint is the run's; none where its folder or its data are gone."""
    folders = [subject.folder.resolve().parent, Path(str(subject.meta.get("run_folder", "")))]
    record = next((path / "run.json" for path in folders if (path / "run.json").is_file()), None)
    if record is None:
        return {}
    try:
        config = json.loads(record.read_bytes())["config"]
        # Only what decides the rows: other settings may have other rules in this version.
        names = {*DATA_FIELDS, "seed"}
        parts = read_parts(build_config({k: v for k, v in config.items() if k in names}), lambda line: None)
    except (SortalError, OSError, ValueError, KeyError):
        return {}
    now, then = parts.fingerprints(), subject.meta["data_fingerprints"]
    both = {"test": parts.test, "dev": parts.dev}
    return {name: part for name, part in both.items() if len(part) and now[name] == then[name]}
