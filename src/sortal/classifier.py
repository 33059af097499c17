"""The Python face: ``sortal.train(...)`` and ``sortal.load(folder)`` give a `Classifier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sortal import model_folder
from sortal.backbone.collector import paused
from sortal.config_unseen import UnseenLabels, check_unseen_labels
from sortal.data.dataset import Dataset
from sortal.data.fields import text_of
from sortal.data.groups import group_column
from sortal.data.labels import LabelSpace
from sortal.data.reading import read
from sortal.data.schema import Schema
from sortal.data.textcells import clean
from sortal.errors import DataError
from sortal.evaluation.clusters import Clusters
from sortal.evaluation.decision import Decision
from sortal.evaluation.frequency import LabelFrequencies
from sortal.evaluation.metrics import evaluate
from sortal.hierarchy.spaces import in_space
from sortal.hierarchy.unseen import leave_out, left_out_figures
from sortal.methods import get_method
from sortal.methods.base import DecidesCheaper, HasNetwork, Scorer
from sortal.model_weights import check_weights
from sortal.training.progress import ProgressView

Prediction = str | None | tuple[str, ...]
Text = str | Mapping[str, str | None]


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier: scores from its method, labels and probabilities from its `Decision`."""

    scorer: Scorer
    label_space: LabelSpace
    decision: Decision
    meta: dict[str, Any]

    @property
    def classes_(self) -> tuple[str, ...]:
        """Label names in the order of every probability column."""
        return self.label_space.names

    @property
    def frequencies(self) -> LabelFrequencies | None:
        """Training rows of every label; None for a model that was saved without them."""
        return LabelFrequencies.from_json(self.meta.get("training_rows"), len(self.label_space))

    def predict_proba(
        self, texts: Sequence[Text], view: ProgressView | None = None
    ) -> npt.NDArray[np.float64]:
        """Calibrated probabilities ``[n, labels]``: softmax rows (single-label) or independent sigmoids (multi-label).

        Args:
            texts: strings, or dicts with one string per text column.
        """
        return self.decision.probabilities(self.scorer.score(self._checked(texts), view))

    def predict_node_proba(
        self, texts: Sequence[Text], view: ProgressView | None = None
    ) -> npt.NDArray[np.float64]:
        """Probabilities ``[n, nodes]`` of all nodes of a tree of labels, columns as in ``label_space.tree.nodes``; none is above its parent's.

        Raises:
            DataError: the labels form no tree.
        """
        tree, space = self.label_space.tree, self.label_space
        if tree is None:
            raise DataError("the labels of this classifier form no tree", "use predict_proba")
        found = self.predict_proba(texts, view)
        return found if space.task == "multi" else tree.of_labels(space.names, found)

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """One label per text (None where it abstains), or a tuple of labels, possibly empty, for multi-label; see `predict_proba`."""
        single = self.label_space.task == "single"
        if single and self.decision.abstain_below is None and isinstance(self.scorer, DecidesCheaper):
            return self.labels(self.scorer.deciding().score(self._checked(texts)).argmax(1))
        return self.labels(self.decision.decide(self.predict_proba(texts)))

    def labels(self, decided: npt.NDArray[Any]) -> list[Prediction]:
        """Decided positions or indicators as label names."""
        if self.label_space.task == "single":
            return list(self.label_space.decode_single(decided))
        return list(self.label_space.decode_multi(decided))

    def evaluate(
        self,
        data: str | Path | Dataset,
        *,
        n_resamples: int = 1000,
        seed: int = 0,
        unseen_labels: UnseenLabels = "error",
    ) -> dict[str, Any]:
        """Figures of ``metrics.json`` on labelled data, with bootstrap intervals.

        Args:
            unseen_labels: ``drop`` takes out labels that training never saw, and leaves out the rows that had no other; see ``left_out`` in the result.

        Raises:
            DataError: unreadable data, or labels that training never saw and ``unseen_labels`` is ``error``.
        """
        check_unseen_labels(unseen_labels)
        dataset = in_space(data, self.label_space) if isinstance(data, Dataset) else self.read(data)
        left_out = None
        if unseen_labels == "drop":
            dataset, left_out, _ = leave_out(dataset, self.label_space)
        gold = self.label_space.encode(dataset)
        scores = self.scorer.score(dataset.iter_texts())
        metrics = evaluate(
            scores,
            gold,
            self.decision,
            self.label_space,
            n_resamples=n_resamples,
            seed=seed,
            frequencies=self.frequencies,
            clusters=Clusters.of(dataset.groups),
        )
        return metrics if left_out is None else {**metrics, "left_out": left_out_figures(left_out, metrics)}

    def read(self, source: str | Path, *, need_labels: bool = True, **overrides: Any) -> Dataset:
        """Read a file with the columns this classifier was trained on; ``overrides`` are arguments of `sortal.data.reading.read`.

        With labels, also the groups of rows where the file has their column: figures depend on them.
        """
        schema = Schema.from_json(self.meta["schema"])
        group = group_column(schema, source) if need_labels and "group" not in overrides else None
        arguments = schema.arguments() | {"task": self.label_space.task, "group": group} | overrides
        return in_space(read(source, need_labels=need_labels, **arguments), self.label_space)

    def _checked(self, texts: Sequence[Text]) -> list[str]:
        if isinstance(texts, str | Mapping):
            what = "string" if isinstance(texts, str) else "dict"
            raise DataError(f"predict takes a list of texts, not one {what}", "write predict([text])")
        schema = Schema.from_json(self.meta.get("schema", {}))
        found = []
        for row, text in enumerate(texts, start=1):
            if not isinstance(text, str | Mapping):
                raise DataError(
                    f"text {row} is a {type(text).__name__}, not a string",
                    "convert it, or use '' for a missing text",
                )
            found.append(text if isinstance(text, str) else text_of(text, schema))
        # A lone surrogate is no Unicode text and no tokenizer takes it; the readers of files do the same.
        return [clean(text)[0] for text in found]


@paused()
def load(folder: str | Path, *, weights: str = "saved") -> Classifier:
    """The classifier in a model folder, giving the answers it gave when it was saved.

    Args:
        weights: ``saved``, or ``int8`` for a decoder on a CPU: 8-bit weights, faster, and not quite the same answers.

    Raises:
        ModelError: not a model folder, damaged, incomplete, or tuned on another base model.
        ConfigError: ``weights`` that this method or machine does not have.
    """
    folder = Path(folder)
    meta = model_folder.read_meta(folder)
    space = model_folder.label_space(meta)
    check_weights(weights, meta["method"])
    scorer = get_method(meta["method"]).load(folder, meta, space)
    if weights == "int8":
        from sortal.backbone.int8 import quantize_weights  # torch is imported by the method

        quantize_weights(cast(HasNetwork, scorer).model)
    if "blend" in meta:
        from sortal.methods.blend import load_blend  # scikit-learn takes a second to import

        scorer = load_blend(scorer, folder, meta, space)
    return Classifier(scorer, space, model_folder.decision(meta), meta)


def train(data: str | Path, **settings: Any) -> Classifier:
    """Fine-tune, calibrate and evaluate a classifier; the same as ``sortal train`` with the same names.

    Returns:
        the classifier; its run folder is ``meta["run_folder"]``.
    """
    from sortal.config import build_config
    from sortal.run import run

    return run(build_config({"data": str(data), **settings}, "sortal.train")).classifier
