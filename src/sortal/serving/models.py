"""A model folder as the server uses it: loaded once, then answering batches with what ``sortal predict`` would say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortal import model_folder
from sortal.classifier import Classifier, Prediction, load
from sortal.data.textcells import clean
from sortal.evaluation.scores import Floats
from sortal.methods.base import ReadsTokens
from sortal.serving.sizes import SizeEstimate
from sortal.training.distributed import processes

PLAIN_TOKENS = 8192  # a batch of a method that reads no tokens: some milliseconds of work
# Measured on one core, a head of 135 M parameters in bf16: 1.5 ms a token in batches of 1,024 and of 2,048, 1.6 of 512, 1.9 of 256.
# What is no faster only lets others wait longer.
CPU_TOKENS = 1024
_WARM_UP = ["A short text.", "word " * 256]
_ENDLESS = "word " * 50_000  # longer than what models are trained on


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says about one text.

    probabilities: float64 ``[labels]``, calibrated, in label-space order. labels: those that the decision gives, in that order; one
    or none (it abstains) for a single-label task. tokens: that the text came to; None for a method that reads none.
    """

    probabilities: Floats
    labels: tuple[str, ...]
    tokens: int | None


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded classifier under its name.

    batch_tokens: budget of a batch. size: tokens of a text, about; counting them takes the model's thread.
    """

    name: str
    classifier: Classifier
    batch_tokens: int
    size: SizeEstimate

    @classmethod
    def load(
        cls, name: str, folder: Path, batch_tokens: int | None = None, weights: str = "saved"
    ) -> ServedModel:
        """Read the folder and answer two texts, so that no client waits for what only the first forward does.

        Args:
            batch_tokens: None takes what one forward of the model holds, on a CPU at most `CPU_TOKENS`.
            weights: see `sortal.classifier.load`, as for what is raised.
        """
        classifier = load(folder, weights=weights)
        scorer, own, size = classifier.scorer, PLAIN_TOKENS, SizeEstimate(0)
        if isinstance(scorer, ReadsTokens):
            empty, endless = scorer.encode(["", _ENDLESS]).lengths.tolist()
            own, size = scorer.max_tokens, SizeEstimate(empty, endless)
            if processes().device.type == "cpu":
                own = min(own, CPU_TOKENS)
        model = cls(name, classifier, batch_tokens or own, size)
        model.answer(_WARM_UP)
        return model

    def answer(self, texts: list[str]) -> list[Answer]:
        """One answer per text, in order; lone surrogates are read as U+FFFD, as in files.

        Raises:
            ModelError: a score is not a number.
        """
        classifier, scorer = self.classifier, self.classifier.scorer
        texts = [clean(text)[0] for text in texts]
        tokens: list[Any] = [None] * len(texts)
        if isinstance(scorer, ReadsTokens):
            encoded = scorer.encode(texts)
            tokens = encoded.lengths.tolist()
            self.size.learn(texts, tokens)
            scores = scorer.score_encoded(encoded)
        else:
            scores = scorer.score(texts)
        probabilities = classifier.decision.probabilities(scores)
        given = classifier.labels(classifier.decision.decide(probabilities))
        return [
            Answer(row, _as_tuple(labels), count)
            for row, labels, count in zip(probabilities, given, tokens, strict=True)
        ]


def _as_tuple(given: Prediction) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else given


def describe(name: str, folder: Path) -> dict[str, Any]:
    """What ``/info`` says about a model folder, and a check of its files: nothing is loaded.

    Raises:
        ModelError: see `sortal.model_folder.read_meta`.
    """
    meta = model_folder.read_meta(folder)
    base = meta["base_model"] or {}
    decision = model_folder.decision(meta)
    return {
        "name": name,
        "method": meta["method"],
        "task": meta["task"],
        "labels": list(model_folder.label_space(meta).names),
        "tree": None
        if decision.tree is None
        else {
            "levels": list(decision.tree.levels),
            "parents": {node: [None, *decision.tree.path(node)][-2] for node in decision.tree.nodes},
        },
        "temperature": decision.temperature,
        "thresholds": None if decision.thresholds is None else list(decision.thresholds),
        "abstain_below": decision.abstain_below,
        "text_columns": list(meta.get("schema", {}).get("text", ())),
        "text_template": meta.get("schema", {}).get("text_template"),
        "max_length": meta.get("max_length"),
        "truncation": meta.get("truncation"),
        "long_texts": meta.get("long_texts"),
        "base_model": base.get("spec"),
        "base_model_revision": base.get("revision"),
        "versions": meta.get("versions", {}),
    }
