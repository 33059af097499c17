"""``blend: tfidf``: a tuned model's scores and those of a linear model on TF-IDF features, added.

The one knows what words mean, the other which words there are, and they are wrong about different texts. Both are first brought to
their own temperature; the share of the second (a logarithmic opinion pool) is the one under which dev is most likely.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.evaluation.calibration import fit_temperature
from sortal.evaluation.scores import Task
from sortal.methods.base import Encoded, FitContext, Fitted, Scored, Scorer, Scores, TokenScorer
from sortal.methods.opinion_pool import best_weights
from sortal.methods.tfidf import GRID_WORK, TfidfMethod, foreseen_work
from sortal.methods.tuning import dev_figures
from sortal.parts import Parts
from sortal.training.progress import ProgressView

_LEAST = 0.01  # a smaller share is left out
_USUAL = 1 / 3  # the share before dev has said anything
# What weighs some rows or labels more than they are frequent, and the values that do not.
_PLAIN_LOSS: dict[str, object] = {
    "class_weight": "none",
    "pos_weight": "none",
    "loss": "auto",
    "negative_smoothing": 0.0,
    "logit_adjustment": 0.0,
}


@dataclass(frozen=True)
class BlendTexts:
    """Texts, and what the tuned model reads of them."""

    texts: Sequence[str]
    tokens: Encoded

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every text, ``[n]``."""
        return self.tokens.lengths


@dataclass
class BlendScorer:
    """``weights[0] · tuned + weights[1] · tfidf``; max_tokens: of one forward of the tuned model."""

    tuned: TokenScorer
    tfidf: Scorer
    weights: tuple[float, float]

    def __post_init__(self) -> None:
        self.max_tokens = self.tuned.max_tokens

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Log-probabilities up to a constant (single-label) or log-odds ``[n, L]``, fp32."""
        return self.score_encoded(self.encode(texts), view)

    def encode(self, texts: Iterable[str]) -> BlendTexts:
        """What both read of ``texts``."""
        texts = texts if isinstance(texts, Sequence) else list(texts)
        return BlendTexts(texts, self.tuned.encode(texts))

    def score_encoded(self, texts: BlendTexts, view: ProgressView | None = None) -> Scores:
        """Scores ``[n, L]`` of what `encode` gave."""
        # Progress of the linear model as well would count every text twice.
        return self.add(self.tuned.score_encoded(texts.tokens, view), self.tfidf.score(texts.texts))

    def add(self, tuned: Scores, tfidf: Scores) -> Scores:
        """The blend of scores of the same texts."""
        a, b = self.weights
        return (a * tuned + b * tfidf).astype(np.float32)

    def save(self, folder: Path) -> dict[str, Any]:
        """The files of both, side by side."""
        return {
            **self.tuned.save(folder),
            **self.tfidf.save(folder),
            "blend": {"tfidf": {"weights": list(self.weights)}},
        }


def settled_blend(
    config: RunConfig, parts: Parts, say: Callable[[str], None] = lambda line: None
) -> Literal["none", "tfidf"]:
    """What ``config.blend`` comes to with these rows; of ``auto``, ``say`` hears why nothing is blended."""
    if config.blend != "auto":
        return config.blend
    if changed := [name for name, plain in _PLAIN_LOSS.items() if getattr(config, name) != plain]:
        say(f"no linear model on words is added: it would know nothing of {' and '.join(changed)}")
    elif not len(parts.dev):
        say("no linear model on words is added: there are no dev rows to say what share it should have")
    elif foreseen_work(parts.train, len(parts.label_space)) > GRID_WORK:
        say(
            f"no linear model on words is added: with {len(parts.train):,} texts and {len(parts.label_space):,} labels it would take "
            "more than some minutes; --blend tfidf adds it all the same"
        )
    else:
        return "tfidf"
    return "none"


def blend_with_tfidf(fitted: Fitted, other: Fitted, context: FitContext) -> Fitted:
    """``fitted`` with the linear model ``other`` beside it; as it is when dev gives that no share."""
    space, config, say = context.label_space, context.config, context.say
    gold = space.encode(context.dev)
    temperatures = [
        fit_temperature(scores, gold, space.task) for scores in (fitted.dev_scores, other.dev_scores)
    ]
    share = best_share(
        fitted.dev_scores / temperatures[0], other.dev_scores / temperatures[1], gold, space.task
    )
    blend = BlendScorer(
        cast(TokenScorer, fitted.scorer),
        other.scorer,
        ((1 - share) / temperatures[0], share / temperatures[1]),
    )
    scores = blend.add(fitted.dev_scores, other.dev_scores)
    metric = config.metric_for_best_model
    alone, linear, both = (
        dev_figures(each, gold, space, config)[metric]
        for each in (fitted.dev_scores, other.dev_scores, scores)
    )
    found = {"share": round(share, 4), metric: both, f"tuned_{metric}": alone, f"tfidf_{metric}": linear}
    seconds = fitted.figures["train_seconds"] + other.figures["train_seconds"]
    figures = {
        **fitted.figures,
        "train_seconds": round(seconds, 3),
        "blend": {**found, "tfidf": other.figures},
    }
    if share < _LEAST:
        say(f"blend: dev gives tfidf ({metric} {linear:.4f}) no share, so it is left out")
        return replace(fitted, figures=figures)
    say(f"blend: share of tfidf {share:.2f}; dev {metric} {alone:.4f} and {linear:.4f}, together {both:.4f}")

    def stored(rows: Dataset) -> Scored | None:
        if fitted.stored is None or (tuned := fitted.stored(rows)) is None:
            return None
        began = time.monotonic()
        if other.stored is None or (linear := other.stored(rows)) is None:
            scores = other.scorer.score(rows.iter_texts())
            linear = Scored(scores, time.monotonic() - began)
        return Scored(blend.add(tuned.scores, linear.scores), tuned.seconds + linear.seconds)

    return Fitted(blend, scores, figures, fitted.shifts_probabilities, stored)


def best_share(a: NDArray[Any], b: NDArray[Any], gold: NDArray[Any], task: Task) -> float:
    """The w in [0, 1] that makes ``gold`` most likely under ``(1 − w) · a + w · b``, see `best_weights`; 0 without rows.

    Args:
        a, b: scores ``[n, L]``, each at its own temperature.
        gold: int ``[n]`` (single-label) or 0/1 ``[n, L]``.
    """
    return float(best_weights([a, b], gold, task, (1 - _USUAL, _USUAL))[1]) if len(gold) else 0.0


def load_blend(tuned: Scorer, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> BlendScorer:
    """What `BlendScorer.save` wrote, around the tuned model that was loaded from it.

    Raises:
        ModelError: a file is missing, damaged or of another model.
    """
    a, b = meta["blend"]["tfidf"]["weights"]
    return BlendScorer(cast(TokenScorer, tuned), TfidfMethod().load(folder, meta, label_space), (a, b))
