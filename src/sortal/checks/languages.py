"""Texts in another language than most, among those of one script: what a language identifier is sure of.

Measured with py3langid 0.4 on training files in English (Banking77, GoEmotions, Reuters, 20 newsgroups; 72,497 texts): 3 texts were said to
be in another language. Of 2,045 headlines in Hausa two thirds are recognised, none as another language; the rest says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sortal.checks.base import CheckContext, Finding
from sortal.checks.mixes import most_common, others
from sortal.checks.scripts import family

_SURE = 0.9  # probability from which a language counts
_LETTERS = 20  # that a text needs to show one
_READ = 400  # characters
_ROWS = 50_000  # of a part, at random, that are looked at: a language is found in a hundred microseconds
_NO_LANGUAGE = "zxx"  # codes of ISO 639: no linguistic content


def check(context: CheckContext) -> Iterator[Finding]:
    """Every part for itself, against the language of most texts of the training file."""
    of = _identifier()
    usual = script = ""
    for part, dataset in context.parts.items():
        rows = np.arange(len(dataset))
        if len(rows) > _ROWS:
            rows = np.sort(np.random.default_rng(context.seed).permutation(len(rows))[:_ROWS])
        texts = list(context.texts(part, "looking at languages", rows))
        scripts = np.array([family(text) for text in texts], np.str_)
        script = script or most_common(scripts)
        # Rows in another script are `scripts`' to report.
        found = np.array([of(t) if s == script else "" for t, s in zip(texts, scripts, strict=True)], np.str_)
        usual = usual or most_common(found)
        looked = "" if len(rows) == len(dataset) else f", of {len(rows):,} random rows looked at,"
        finding = others(
            "languages",
            part,
            rows,
            found,
            usual,
            f"likely{looked} in another language than most ({usual})",
            "check that the base model knows these languages, and that each has its share of dev and test",
        )
        if finding is not None:
            yield finding


def _identifier() -> Callable[[str], str]:
    """A function that names a text's language by its ISO 639 code, "" where that is not sure."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # reads 5 MB, which takes a second

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def language(text: str) -> str:
        read = text[:_READ]
        if sum(map(str.isalpha, read)) < _LETTERS:
            return ""
        code, probability = identifier.classify(read)
        return code if probability >= _SURE and code != _NO_LANGUAGE else ""

    return language
