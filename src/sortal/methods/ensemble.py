"""Method ``ensemble``: finished runs whose scores are added. Nothing is trained here but one weight per run, on dev.

Models of different kinds are wrong about different texts. Every member's scores are brought to their own temperature; the weights
are those under which dev is most likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sortal.config import RunConfig
from sortal.config_ensemble import member_folders
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, ModelError, RunFolderError
from sortal.evaluation.calibration import fit_temperature
from sortal.methods.base import FitContext, Fitted, PreviewContext, Scored
from sortal.methods.ensemble_scorer import FOLDER, EnsembleScorer, Member, digest, ensemble_of, weighted
from sortal.methods.opinion_pool import best_weights
from sortal.methods.preview import Preview
from sortal.methods.stored_scores import stored_scores
from sortal.training.runfolder import RunFolder

_LEAST = 0.01  # who would have a smaller share is left out


class EnsembleMethod:
    """Weighing and loading of ``ensemble``."""

    has_base: ClassVar[bool] = False
    in_steps: ClassVar[bool] = False

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse, before the first is trained, settings of a member that do not fit the labels; runs are not looked at yet: in a comparison they are not finished.

        Raises:
            ConfigError: see above.
        """
        from sortal.methods import get_method  # the registry, which imports this module

        for method in config.trained_members:
            get_method(method).check(config.of_member(method), train, label_space)

    def preview(self, asked: PreviewContext) -> Preview:
        """Nothing to show: the members read the texts.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("an ensemble reads no text itself", "show what its members read")

    def fit(self, context: FitContext) -> Fitted:
        """Weigh the members by ``context.dev``.

        Raises:
            RunFolderError: a member of other rows. ModelError: one that cannot be loaded, or gives no score to some labels.
        """
        from sortal.classifier import load  # which imports the registry, and that this module

        space, say = context.label_space, context.say
        folders = [RunFolder(name) for name in member_folders(context.config)]
        records = [_record(folder) for folder in folders]
        _check_same_rows(folders, records, context)
        scorers, scores = [], []
        for folder in folders:
            scorers.append(load(folder.model).scorer)
            if (stored := stored_scores(folder, "dev", context.dev, space)) is not None:
                scores.append(stored.scores)
            else:
                scores.append(scorers[-1].score(context.dev.iter_texts(), context.view))
            if not np.isfinite(scores[-1]).all():
                raise ModelError(
                    f"{folder.path} scores some labels only (a shortlist), which cannot be added to others",
                    "leave it out",
                )
        gold = space.encode(context.dev)
        temperatures = [fit_temperature(each, gold, space.task) for each in scores]
        k = len(folders)
        tempered = [each / t for each, t in zip(scores, temperatures, strict=True)]
        weights = best_weights(tempered, gold, space.task, [1 / k] * k)
        weights = np.where(weights < _LEAST, 0.0, weights)
        weights = weights / weights.sum()
        kept = np.flatnonzero(weights).tolist()
        for folder, weight in zip(folders, weights, strict=True):
            share = f"weight {weight:.2f}" if weight else "dev gives it no weight, so it is left out"
            say(f"{folder.path}: {share}")
        members = tuple(
            Member(scorers[i], float(weights[i] / temperatures[i]), folders[i].model) for i in kept
        )
        figures = _figures([record["training"] for record in records])
        figures["members"] = [
            {"folder": str(folder.path), "method": record["config"]["method"], "share": round(float(weight), 4)}
            for folder, record, weight in zip(folders, records, weights, strict=True)
        ]  # fmt: skip
        figures["base_model_bytes"] = _base_bytes([records[i] for i in kept])
        dev_scores = weighted((members[n].weight, scores[i]) for n, i in enumerate(kept))
        shifts = any(record["training"].get("shifts_probabilities") for record in records)

        def stored_test(rows: Dataset) -> Scored | None:
            found = [stored_scores(folders[i], "test", rows, space) for i in kept]
            told = [one for one in found if one is not None]
            if len(told) < len(kept):
                return None
            together = weighted(
                (member.weight, one.scores) for member, one in zip(members, told, strict=True)
            )
            return Scored(together, sum(one.seconds for one in told))

        return Fitted(ensemble_of(members), dev_scores, figures, shifts, stored_test)

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> EnsembleScorer:
        """The members saved in ``folder``.

        Raises:
            ModelError: one is missing, damaged, or not the one that was saved there.
        """
        from sortal.classifier import load

        members = []
        for number, entry in enumerate(meta[FOLDER]):
            path = folder / FOLDER / str(number)
            loaded = load(path)
            if digest(path) != entry["sha256"] or loaded.label_space.names != label_space.names:
                raise ModelError(
                    f"{path} is not the model that this ensemble was saved with",
                    "restore it from the run that made it",
                )
            members.append(Member(loaded.scorer, entry["weight"], path))
        return ensemble_of(members)


def _record(folder: RunFolder) -> dict[str, Any]:
    if folder.state() != "finished":
        raise RunFolderError(
            f"{folder.path} holds no finished run", "name the folders of finished runs as members"
        )
    return folder.read_run_json()


def _check_same_rows(
    folders: Sequence[RunFolder], records: Sequence[dict[str, Any]], context: FitContext
) -> None:
    rows = {"train": context.train.fingerprint, "dev": context.dev.fingerprint}
    for folder, record in zip(folders, records, strict=True):
        if tuple(record["identity"]["labels"]) != context.label_space.names:
            raise RunFolderError(
                f"the labels of {folder.path} are others than these rows'", "name runs of the same data"
            )
        if any(record["identity"]["data"].get(part) != expected for part, expected in rows.items()):
            raise RunFolderError(
                f"{folder.path} was trained on other rows than these",
                "name runs of the same files and split_seed, or leave the data out: they are then those of the first member",
            )


def _figures(trainings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all of them cost: seconds and parameters add up, and memory is that of the largest."""
    figures: dict[str, Any] = {}
    for name, together in (("train_seconds", sum), ("trainable_parameters", sum), ("peak_memory_bytes", max)):
        if given := [training[name] for training in trainings if training.get(name) is not None]:
            figures[name] = together(given)
    return figures


def _base_bytes(records: Sequence[dict[str, Any]]) -> int:
    """Bytes of the base models that loading needs beside the folder, each counted once."""
    sizes = {
        (record["identity"]["base_model"], record["identity"]["revision"]): record["size_on_disk"]["base_model_bytes"]
        for record in records
    }  # fmt: skip
    return sum(sizes.values())
