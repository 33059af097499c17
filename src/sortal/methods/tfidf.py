"""Method ``tfidf``: a linear model on TF-IDF features, the baseline that a tuned language model has to beat."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from scipy.sparse import csr_matrix

from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ModelError
from sortal.hierarchy.units import Units, saved_units, unit_plan
from sortal.methods.base import FitContext, Fitted, PreviewContext, Scores
from sortal.methods.linear import Kind, Linear, fit_linear, stop_workers
from sortal.methods.plain_folder import load_json, save_json
from sortal.methods.preview import FeaturePreview, FeatureRow
from sortal.methods.tfidf_features import Block, TfidfFeatures, chunks
from sortal.methods.tree_linear import tempered
from sortal.training.atomic import write_bytes
from sortal.training.progress import NoProgress, ProgressView

TERMS, WEIGHTS = "tfidf.json", "tfidf.safetensors"
_SCORE_CHUNK = 1024
_ALONE_WORK = 5e7  # feature values × labels that one process reads in a second or two, as long as it takes to start others
_WORKER_BYTES = 300_000_000  # a process with scikit-learn in it
_VALUE_BYTES = 16  # a feature value in its solver
_SAMPLE = 200  # texts whose n-grams tell how many all have


@dataclass(frozen=True)
class Candidate:
    """A linear model and the inverse of its regularisation."""

    model: Kind
    c: float


# The most promising first, for data where not all can be tried.
GRID = (
    Candidate("svm", 0.3),
    Candidate("logistic", 3.0),
    Candidate("svm", 1.0),
    Candidate("logistic", 10.0),
    Candidate("svm", 0.1),
    Candidate("logistic", 1.0),
    Candidate("svm", 3.0),
)
# Feature values × labels that all candidates together may read; a candidate's time is proportional to it.
GRID_WORK = 12e9


@dataclass(frozen=True, eq=False)
class TfidfScorer:
    """Features of a text and a linear model on them; ``units``: what it gives, of a tree of labels that is learned level by level."""

    label_space: LabelSpace
    features: TfidfFeatures
    linear: Linear
    units: Units | None = None

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Decision values ``[n, L]``, above 0 for a label that is likelier than not."""
        view, n_labels = view or NoProgress(), len(self.label_space)
        texts = texts if isinstance(texts, Sequence) else list(texts)
        view.start("scoring", len(texts))
        parts = [np.zeros((0, n_labels), np.float32)]
        for chunk in chunks(texts, _SCORE_CHUNK):
            values = self.linear.score(self.features.transform(chunk))
            parts.append(values if self.units is None else self.units.scores(values))
            view.advance(len(chunk), 0)
        view.stop()
        return np.concatenate(parts)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``tfidf.json`` (the n-grams) and ``tfidf.safetensors`` (their idf and weights)."""
        words, characters, weights = self.features.words, self.features.characters, self.linear.weights
        tensors = {
            "words.idf": words.idf,
            "characters.idf": characters.idf,
            "weights.data": weights.data,
            "weights.indices": weights.indices.astype(np.int32),
            "weights.indptr": weights.indptr.astype(np.int64),
            "bias": self.linear.bias,
        }
        write_bytes(folder / WEIGHTS, safetensors.numpy.save(tensors))
        terms = {"words": list(words.terms), "characters": list(characters.terms)}
        return save_json(folder / TERMS, terms, self.label_space)


class TfidfMethod:
    """Fitting and loading of ``tfidf``."""

    has_base: ClassVar[bool] = False
    in_steps: ClassVar[bool] = False

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse weights of levels that do not fit the tree."""
        unit_plan(label_space, config.hierarchy, config.level_weights)

    def preview(self, asked: PreviewContext) -> FeaturePreview:
        """The n-grams of the first rows, with the values that the linear model reads."""
        train, rows, view = asked.train, asked.rows, asked.view
        features, _ = TfidfFeatures.fit(train.texts, view)
        first = train.text_at(range(min(rows, len(train))))
        counts = {
            "features": len(features),
            "word_features": len(features.words.terms),
            "character_features": len(features.characters.terms),
        }
        about = (
            f"{counts['word_features']:,} words and pairs of words, "
            f"{counts['character_features']:,} runs of 2 to 5 characters"
        )
        shown = [FeatureRow(row, features.named(text)) for row, text in enumerate(first)]
        return FeaturePreview(shown, about, counts)

    def fit(self, context: FitContext) -> Fitted:
        """Fit candidates on ``context.train``; model and C by ``context.dev``, whose rows are never trained on."""
        from sortal.methods.tuning import dev_figures  # imports torch, which an answer does without
        from sortal.training.budget import peak_memory

        config, space, say = context.config, context.label_space, context.say
        began = time.monotonic()
        features, x = TfidfFeatures.fit(context.train.texts, context.view)
        context.view.start("counting dev", 2 * len(context.dev))
        dev = features.transform(context.dev.texts, context.view)
        context.view.stop()
        say(
            f"{len(features.words.terms):,} words and pairs of words, {len(features.characters.terms):,} runs of characters; "
            f"{x.nnz / x.shape[0]:,.0f} of them in a training text (mean)"
        )
        x, dev_gold = x.astype(np.float64), space.encode(context.dev)
        units = unit_plan(space, config.hierarchy, config.level_weights)
        if units is None:
            targets, among = space.encode_sparse(context.train), None
        else:
            targets = units.targets(space.encode(context.train))
            among = units.counted(targets)
        outputs = len((units or space).names)
        candidates = affordable(x.nnz * outputs)
        workers = fitting_workers(x.nnz, outputs)
        if len(candidates) < len(GRID):
            say(f"large data: {len(candidates)} of {len(GRID)} candidates are tried")
        best: tuple[float, Candidate, Linear, Scores] | None = None
        tried: list[dict[str, Any]] = []
        for candidate in candidates:
            started = time.monotonic()
            linear = fit_linear(
                x,
                targets,
                outputs,
                candidate.model,
                candidate.c,
                seed=config.seed,
                view=context.view,
                among=among,
                workers=workers,
            )
            scores = linear.score(dev)
            if units is not None:
                linear, scores = tempered(linear, scores, units, dev_gold, space.task)
            figures = dev_figures(scores, dev_gold, space, config)
            seconds = time.monotonic() - started
            tried.append({**asdict(candidate), "seconds": round(seconds, 3), **figures})
            say(f"{candidate.model} C={candidate.c:g}  {_shown(figures)}  ({seconds:.1f} s)")
            if best is None or figures["metric"] > best[0]:
                best = (figures["metric"], candidate, linear, scores)
        beside = workers * stop_workers() if workers > 1 else 0
        assert best is not None
        _, chosen, linear, dev_scores = best
        say(
            f"chosen by dev {config.metric_for_best_model}: {chosen.model} C={chosen.c:g}, fitted on train only"
        )
        return Fitted(
            TfidfScorer(space, features, linear, units),
            dev_scores,
            {
                **asdict(chosen),
                "features": len(features),
                "word_features": len(features.words.terms),
                "character_features": len(features.characters.terms),
                "nonzero_weights": int(linear.weights.nnz),
                "candidates": tried,
                "processes": workers,
                "train_seconds": round(time.monotonic() - began, 3),
                "peak_memory_bytes": peak_memory(context.processes.device)
                + (beside if context.processes.device.type == "cpu" else 0),
            },
        )

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> TfidfScorer:
        """The scorer saved in ``folder``; its scores are the same to the bit.

        Raises:
            ModelError: a file is missing, damaged, or not of these labels or of the same model.
        """
        terms = load_json(folder / TERMS, meta, label_space)
        units = saved_units(meta, label_space)
        path = folder / WEIGHTS
        try:
            tensors = safetensors.numpy.load_file(path)
            blocks = (
                Block(kind, tuple(terms[kind]), tensors[f"{kind}.idf"]) for kind in ("words", "characters")
            )
            features = TfidfFeatures(*blocks)
            parts = tuple(tensors[f"weights.{part}"] for part in ("data", "indices", "indptr"))
            weights = csr_matrix(parts, shape=(len(features), len((units or label_space).names)))
            linear = Linear(weights, tensors["bias"])
        except FileNotFoundError:
            raise ModelError(f"{path} is missing", "restore it from the run that made it") from None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ModelError(
                f"{path} is damaged ({type(error).__name__}: {error})", "restore it from the run that made it"
            ) from None
        return TfidfScorer(label_space, features, linear, units)


def affordable(work: int) -> tuple[Candidate, ...]:
    """The first of `GRID`, at least one, that together stay within `GRID_WORK`.

    Args:
        work: feature values × labels of one candidate.
    """
    return GRID[: max(1, int(GRID_WORK // max(work, 1)))]


def fitting_workers(values: int, outputs: int) -> int:
    """Processes that fit labels side by side: one per thread of torch, as far as memory goes, and one where all is done in seconds.

    Args:
        values: feature values of all texts; the solver copies them.
        outputs: labels.
    """
    import psutil
    import torch

    if values * outputs < _ALONE_WORK:
        return 1
    room = psutil.virtual_memory().available // 2 // (_WORKER_BYTES + _VALUE_BYTES * values)
    return max(1, min(torch.get_num_threads(), outputs, room))


def foreseen_work(train: Dataset, outputs: int) -> int:
    """What `affordable` is about, by a sample of the texts; a bit much, as n-grams too rare to be kept count, too.

    Args:
        train: the rows to fit on.
        outputs: labels.
    """
    sample = train.text_at(np.linspace(0, len(train) - 1, min(_SAMPLE, len(train))).astype(np.int64))
    _, x = TfidfFeatures.fit(sample)
    return int(x.nnz) * len(train) // max(len(sample), 1) * outputs


def _shown(figures: dict[str, float]) -> str:
    return "dev " + "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if name != "metric")
