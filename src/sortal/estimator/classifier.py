"""``sortal.SortalClassifier``: `sortal.train` and `sortal.load` behind scikit-learn's interface."""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sortal.classifier import Classifier
from sortal.data.dataset import Dataset, Labels
from sortal.data.schema import Schema
from sortal.errors import InputError, RunFolderError
from sortal.estimator.answers import read_answers
from sortal.estimator.guards import numpy_random_kept, refusals, stops
from sortal.estimator.kept_model import KeptModel
from sortal.estimator.settings import run_config
from sortal.estimator.targets import Targets
from sortal.estimator.texts import TextColumns, is_gap, read_columns
from sortal.hierarchy.spaces import spelled, tree_space
from sortal.training.atomic import atomic_folder


class SortalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A text classifier for pipelines, searches and cross-validation.

    ``fit`` is `sortal.train` on rows in memory, without a test part: same split, same training, same model folder.
    None stands for the default of the method, as in `sortal.config.RunConfig`, which says what each setting does.

    Args:
        method: ``head``, ``instruct``, ``probe``, ``encoder``, ``tfidf`` or ``majority``; ``ensemble`` with ``settings={"members": ["head", "tfidf"]}``.
        model: base model: registry name, folder, GGUF file, ``pypi:NAME`` or hub id.
        preset: ``fast``, ``balanced`` or ``best``: settings of a head by name; ``best`` adds an encoder and a linear model on words to it.
        epochs: passes over the training rows.
        learning_rate: peak learning rate.
        batch_size: examples per optimiser step.
        max_length: tokens per text.
        lora_r: rank of the adapters.
        blend: ``tfidf`` adds the scores of a linear model, ``none`` does not; default of a head: ``auto``, where that takes minutes at most.
        class_weight: ``balanced``, or label → weight in the loss; for methods that are trained in steps.
        thresholds: with several labels per row, how they are tuned on dev: ``auto``, ``global``, ``per_label`` or ``none``.
        threshold_metric: what the thresholds maximise: ``f1_macro`` or ``f1_micro``.
        abstain_below: with one label per row, the probability below which the model does not know.
        on_abstain: what ``predict`` does then: ``return_none`` (None in an object array), ``ignore`` (the best label all the same),
            ``warn`` (the same, with a warning) or ``raise``.
        validation_fraction: share of the rows of ``fit`` for the choice of an epoch, calibration and thresholds, when it is given no dev rows.
        random_state: seed; None draws one from NumPy's global generator.
        verbose: 0 shows nothing and turns what needs attention into Python warnings; 1 shows what ``sortal train`` shows.
        settings: any other setting, ``{"keep_layers": 9, "quantization": "nf4"}``.

    Attributes:
        classes_: labels ``[L]`` in the caller's own type, in the order of the columns of scores and probabilities: sorted, or the columns of an indicator matrix.
            Labels in a tree (``settings={"path_separator": "/"}``) that stand for others, or are only ancestors of some, make all of them strings.
        n_features_in_: text columns of X; 1 for a list of texts.
        feature_names_in_: column names, when X was a DataFrame.
    """

    def __init__(
        self,
        method: str = "head",
        model: str | None = None,
        *,
        preset: str | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        max_length: int | None = None,
        lora_r: int | None = None,
        blend: str | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        thresholds: str | None = None,
        threshold_metric: str | None = None,
        abstain_below: float | None = None,
        on_abstain: str = "return_none",
        validation_fraction: float = 0.1,
        random_state: Any = 0,
        verbose: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.model = model
        self.preset = preset
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_length = max_length
        self.lora_r = lora_r
        self.blend = blend
        self.class_weight = class_weight
        self.thresholds = thresholds
        self.threshold_metric = threshold_metric
        self.abstain_below = abstain_below
        self.on_abstain = on_abstain
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose
        self.settings = settings

    def fit(
        self, X: Any, y: Any, *, X_dev: Any = None, y_dev: Any = None, groups: Sequence[Any] | None = None
    ) -> SortalClassifier:
        """Train on texts and their labels.

        Args:
            X: a text per row (list, array, Series), or rows of text columns (DataFrame, 2-D array), which are joined line by line or
                by the setting ``text_template``. Missing text is empty text.
            y: a label per row; or with several labels an indicator matrix or a list of labels per row.
            X_dev: rows for the choice of an epoch, calibration and thresholds; default: ``validation_fraction`` of X.
            y_dev: their labels.
            groups: rows of one value stay on one side of that split, as rows of one text always do; a row with None, NaN or "" belongs to no other.

        Raises:
            InputError: X, y or a parameter that cannot be used. SortalError: as `sortal.train`.
        """
        from sortal.run import run

        columns = read_columns(self, X, reset=True)
        if columns.n == 0:
            raise InputError("X has no rows", "give labelled texts")
        if (X_dev is None) != (y_dev is None):
            raise InputError("X_dev and y_dev belong together", "give both, or neither")
        answers = read_answers(y, columns.n)
        targets = named = Targets.learn(answers)
        with tempfile.TemporaryDirectory(prefix="sortal-fit-") as place, refusals(), stops():
            out = str(Path(place) / "run")
            config = run_config(self.get_params(deep=False), targets, split=X_dev is None, out=out)
            template = config.text_template
            data = {"train": _dataset(columns, template, targets.labels(answers), targets, "X", groups)}
            if config.has_tree:
                targets = targets.in_tree(tree_space(config, data["train"]))
            if X_dev is not None:
                dev = read_columns(self, X_dev, reset=False)
                labels = named.labels(read_answers(y_dev, dev.n, "y_dev"))
                data["dev"] = _dataset(dev, template, labels, named, "X_dev")
            with numpy_random_kept():
                result = run(config, data=data, say=self._say, quiet=not self.verbose)
            self._model = KeptModel.take(result.folder / "model", result.classifier)
        self._targets, self._template = targets, template
        self.classes_ = targets.classes
        return self

    @property
    def classifier_(self) -> Classifier:
        """The fitted `sortal.Classifier`: label strings, `Decision` with temperature and thresholds, and what sortal.json says."""
        check_is_fitted(self)
        return self._model.classifier

    def predict(self, X: Any) -> Any:
        """Labels in the form of the y of ``fit``: an array ``[n]``, a 0/1 matrix ``[n, L]``, or a list of tuples.

        Raises:
            InputError: a text that the model does not know, with ``on_abstain="raise"``.
        """
        decision = self.classifier_.decision
        answers = self._targets.decode(self._answers(self._texts(X)))
        may_be_none = decision.abstain_below is not None and self.on_abstain == "return_none"
        return answers.astype(object) if may_be_none else answers

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Calibrated probabilities ``[n, L]``, columns as in ``classes_``; rows sum to one when there is one label per row."""
        classifier = self.classifier_
        return classifier.predict_proba(self._texts(X))

    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Calibrated scores: softmax of them, or with several labels sigmoid, is `predict_proba`.

        Returns:
            float64 ``[n, L]``; for two classes ``[n]``, the log-odds of ``classes_[1]``.
        """
        classifier = self.classifier_
        scores = classifier.scorer.score(self._texts(X)).astype(np.float64) / classifier.decision.temperature
        if self._targets.task == "single" and scores.shape[1] == 2:
            return scores[:, 1] - scores[:, 0]
        tree = classifier.decision.tree
        # The order of scores is that of probabilities: lowered alike, they stay their log-odds.
        return scores if tree is None or self._targets.task == "single" else tree.monotone(scores)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of rows whose labels are all right; a row without an answer is wrong."""
        check_is_fitted(self)
        texts = self._texts(X)
        space = self.classifier_.label_space
        gold = spelled(self._targets.labels(read_answers(y, len(texts))), space)
        answers = self._answers(texts)
        if self._targets.task == "single":
            right = [(name,) == names for name, names in zip(answers, gold, strict=True)]
        else:
            right = [set(found) == set(names) for found, names in zip(answers, gold, strict=True)]
        return float(np.average(right, weights=sample_weight))

    def save(self, folder: str | Path) -> Path:
        """Copy the model folder to ``folder``, for `sortal.load`, ``sortal predict`` and ``sortal serve``.

        Raises:
            RunFolderError: something is there already.
        """
        check_is_fitted(self)
        folder = Path(folder)
        if folder.exists():
            raise RunFolderError(
                f"{folder} exists already", "choose another folder, or delete that one first"
            )
        with atomic_folder(folder) as temporary:
            shutil.copytree(self._model.folder, temporary, dirs_exist_ok=True)
        return folder

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # input_tags.one_d_array stays False: it makes scikit-learn's checks give numbers in one dimension, which are no texts.
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True  # a missing text is an empty one
        tags.classifier_tags.multi_label = True
        # scikit-learn's own checks are about points in space, of which a text classifier sees the digits.
        tags.classifier_tags.poor_score = True
        return tags

    def _texts(self, X: Any) -> list[str]:
        columns = read_columns(self, X, reset=False)
        with refusals():
            return columns.join(self._template, "X")

    def _answers(self, texts: Sequence[str]) -> Sequence[Any]:
        """A label string per text, or a tuple of them; None where the model does not know, if the policy is to say so."""
        classifier = self._model.classifier
        limit = classifier.decision.abstain_below
        if limit is None or self.on_abstain == "return_none":
            return classifier.predict(texts)
        probabilities = classifier.predict_proba(texts)
        unsure = int((probabilities.max(axis=1) < limit).sum())
        said = f"{unsure:,} of {len(texts):,} texts have no label as probable as abstain_below, {limit:g}"
        if unsure and self.on_abstain == "raise":
            raise InputError(said, "lower abstain_below, or choose another on_abstain")
        if unsure and self.on_abstain == "warn":
            warnings.warn(said, stacklevel=3)
        return classifier.labels(probabilities.argmax(axis=1))

    def _say(self, line: str) -> None:
        if self.verbose:
            print(line, file=sys.stderr, flush=True)
        elif line.startswith("warning: "):
            warnings.warn(line.removeprefix("warning: "), stacklevel=2)


def _dataset(
    columns: TextColumns,
    template: str | None,
    labels: Sequence[Labels],
    targets: Targets,
    source: str,
    groups: Sequence[Any] | None = None,
) -> Dataset:
    """Rows in memory as those of a file, with the order of the labels declared."""
    if groups is not None and len(groups) != columns.n:
        raise InputError(
            f"groups has {len(groups):,} rows, and {source} {columns.n:,}", "give one group per text"
        )
    rows = Dataset.from_lists(
        columns.join(template, source),
        labels,
        groups=None
        if groups is None
        else [None if is_gap(group) or group == "" else str(group) for group in groups],
        label_names=targets.names,
        source=source,
    )
    return replace(rows, schema=Schema(text=columns.names, text_template=template, task=targets.task))
