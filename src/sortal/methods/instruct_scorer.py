"""Scores of method ``instruct``: what a tuned language model says about every label of every text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.language_model import LanguageModel
from sortal.backbone.packing import microbatches
from sortal.backbone.windows import combined as of_texts
from sortal.methods.base import Scores
from sortal.methods.instruct_rows import Branches, Trunks
from sortal.methods.nearest_shots import NearestShots
from sortal.methods.text_folder import saved_long_texts
from sortal.prompting import listing
from sortal.prompting.prompt import Prompt
from sortal.prompting.scoring import Began, SharedPrompt, answer_logprobs
from sortal.prompting.shortlist import Shortlist
from sortal.prompting.trie import Trie
from sortal.training.distributed import Processes, alone
from sortal.training.progress import NoProgress, ProgressView

_SCORE_CHUNK = 2048
_GROWN_NODES = 16  # what a text's tree usually comes to when it is grown
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Score = Callable[[SharedPrompt, list[Ints], list[Ints], Began], list[Floats]]
"""Scores of each text's own labels, from the shared prompt, the trunks and the labels; see `answer_logprobs` for the last one."""


@dataclass(frozen=True)
class Scoring:
    """How answers become scores.

    tolerance: see `answer_logprobs`. stop_bias, max_labels: form ``list``, see `listing.decode`.
    """

    tolerance: float = 0.0
    length_normalization: bool = False
    prior_correction: bool = False
    stop_bias: float = 0.0
    max_labels: int = 1


@dataclass
class InstructScorer:
    """A language model with its prompt; scores are log p(label | text) (single-label) or log-odds (multi-label).

    frozen: the weights change no more, so the shared prompt is computed once and not at every call.
    """

    model: LanguageModel
    prompt: Prompt
    n_labels: int
    scoring: Scoring
    max_tokens: int
    shortlist: Shortlist | None = None
    group: Processes | None = None
    lockstep: bool = False
    frozen: bool = False
    nearest: NearestShots | None = None
    _kept: SharedPrompt | None = field(default=None, init=False, repr=False)
    _deciding: InstructScorer | None = field(default=None, init=False, repr=False)

    def score(self, texts: Iterable[str], view: ProgressView | None = None) -> Scores:
        """Scores ``[n, labels]``; −inf for labels that a shortlist left out."""
        stream, parts = iter(texts), []
        while chunk := list(islice(stream, _SCORE_CHUNK)):
            parts.append(self.score_encoded(self.encode(chunk), view))
        return np.concatenate(parts) if parts else np.zeros((0, self.n_labels), np.float32)

    def deciding(self) -> InstructScorer:
        """Opens only what may hold a likelier answer than the best one; itself where that does not decide."""
        at = self.scoring
        if self.prompt.form != "label" or at.tolerance == 0 or at.length_normalization or at.prior_correction:
            return self
        if self.prompt.long.windows > 1:  # the best label of all windows may be the best of none
            return self
        if self._deciding is None:
            self._deciding = replace(self, scoring=replace(at, tolerance=np.inf))
        return self._deciding

    def trunks(
        self, texts: list[str], candidates: Ints | None = None, view: ProgressView | None = None
    ) -> Trunks:
        """Encoded texts, with their nearest examples, and with the candidates that the shortlist proposes unless some are given."""
        if self.shortlist is not None and candidates is None:
            candidates = self.shortlist.propose(texts)
        # Room for the longest list: how much of a text is kept must not depend on the texts beside it.
        listed = 0 if candidates is None else self.prompt.listed_tokens(candidates.shape[1])
        encoded, examples = self.prompt.encode(texts, listed), None
        if self.nearest is not None:
            examples = self.nearest.beside(texts, encoded, self.prompt, listed, view)
        return Trunks(self.prompt, encoded, candidates, examples)

    def encode(self, texts: Iterable[str]) -> Trunks:
        """What the model reads of ``texts`` below the shared prompt."""
        return self.trunks(list(texts))

    def score_encoded(self, trunks: Trunks, view: ProgressView | None = None) -> Scores:
        """Scores of encoded texts; with several processes each does its part, and all must call this."""
        found = self._per_text(trunks.unrolled, view or NoProgress(), self._corrected(self._scores))
        return self.combined(trunks, found)

    def decodings(self, trunks: Trunks, view: ProgressView) -> list[Floats]:
        """Form ``list``: scores ``[biases, labels]`` of every window, one row per `listing.STOP_BIASES`."""
        wide = replace(self, scoring=replace(self.scoring, stop_bias=max(listing.STOP_BIASES)))

        def at_each_bias(
            shared: SharedPrompt, chunk: list[Ints], labels: list[Ints], began: Began
        ) -> list[Floats]:
            decoded = wide._decode(shared, chunk, labels)
            began(range(len(chunk)))
            return [
                np.stack([listing.logits(steps, bias) for bias in listing.STOP_BIASES]) for steps in decoded
            ]

        return wide._per_text(trunks.unrolled, view, wide._corrected(at_each_bias))

    def _corrected(self, score: Score) -> Score:
        """``score`` in label-space order, less what it gives an empty text where prior correction is asked for."""
        prior: list[Floats] = []

        def work(shared: SharedPrompt, chunk: list[Ints], labels: list[Ints], began: Began) -> list[Floats]:
            found = score(shared, chunk, labels, began)
            if self.scoring.prior_correction:
                if not prior:
                    empty = Trunks(self.prompt, self.prompt.encode([""]))
                    prior.extend(score(shared, [empty[0]], labels[:1], lambda texts: None))
                found = [values - prior[0] for values in found]
            return [self._spread(values, own) for values, own in zip(found, labels, strict=True)]

        return work

    def _spread(self, values: Floats, labels: Ints) -> Floats:
        """Values ``[…, some labels]`` in label-space order, −inf for the others."""
        whole = np.full((*values.shape[:-1], self.n_labels), -np.inf)
        whole[..., labels] = values
        return whole

    def combined(self, trunks: Trunks, found: list[Floats | None]) -> Scores:
        """Scores ``[texts, labels]`` from those of their windows, of all processes."""
        scores = torch.from_numpy(self.gathered(found))
        owners = trunks.owners(np.arange(len(trunks)), scores.device)
        return of_texts(scores, owners, self.prompt.long.aggregation).numpy()

    def gathered(self, found: list[Floats | None]) -> Scores:
        """Scores ``[n, labels]`` of all processes; None marks a sequence that another one scored."""
        scores = torch.zeros(len(found), self.n_labels, device=self.model.device)
        for i, row in enumerate(found):
            if row is not None:
                scores[i] = torch.from_numpy(row).to(scores)
        if not self.lockstep:
            (self.group or alone(self.model.device)).sum_([scores])
        return scores.cpu().numpy()

    def _per_text(self, trunks: Trunks, view: ProgressView, work: Score) -> list[Any]:
        """The results of ``work`` on every text of this process, in microbatches of similar length; None for the others'."""
        group = self.group or alone(self.model.device)
        # Processes that share a base compute everything together: a text's tree may take any number of forwards.
        mine = np.arange(len(trunks)) if self.lockstep else group.share(np.arange(len(trunks)))
        found: list[Any] = [None] * len(trunks)
        view.start("scoring", len(mine))
        everything = np.arange(self.n_labels)
        with torch.inference_mode():
            shared = self._shared_prompt(trunks.shared)
            for rows in self._parts(trunks, mine):
                labels = [everything if trunks.candidates is None else trunks.candidates[i] for i in rows]

                def began(texts: Sequence[int], rows: Ints = rows) -> None:
                    view.advance(len(texts), int(trunks.lengths[rows[list(texts)]].sum()))

                values = work(shared, [trunks[i] for i in rows], labels, began)
                for i, value in zip(rows.tolist(), values, strict=True):
                    found[i] = value
        view.stop()
        return found

    def _parts(self, trunks: Trunks, rows: Ints) -> list[Ints]:
        """``rows`` in microbatches of similar length; where trees grow, all in that order, so that forwards stay full to the last trees."""
        if self._grows and self.prompt.form == "label":
            return [rows[np.argsort(trunks.lengths[rows], kind="stable")]]
        costs = trunks.lengths[rows] + self._tree_tokens
        return [rows[part] for part in microbatches(costs.tolist(), self.max_tokens)]

    def _shared_prompt(self, ids: Ints) -> SharedPrompt:
        if not self.frozen:
            return SharedPrompt.compute(self.model, ids)
        if self._kept is None:
            self._kept = SharedPrompt.compute(self.model, ids)
        return self._kept

    def _scores(
        self, shared: SharedPrompt, trunks: list[Ints], labels: list[Ints], began: Began
    ) -> list[Floats]:
        """Scores of each text's own labels."""
        if self.prompt.form == "label":
            return self._answers(shared, trunks, labels, began)
        if self.prompt.form == "each":
            found = self._yes_no(shared, trunks, labels)
        else:
            steps = self._decode(shared, trunks, labels)
            found = [listing.logits(own, self.scoring.stop_bias) for own in steps]
        began(range(len(trunks)))
        return found

    def _answers(
        self, shared: SharedPrompt, trunks: list[Ints], labels: list[Ints], began: Began
    ) -> list[Floats]:
        tries = [self._trie_of(own) for own in labels]
        found = answer_logprobs(
            shared, trunks, tries, self.scoring.tolerance, budget=self._forward_tokens, began=began
        )
        if not self.scoring.length_normalization:
            return found
        lengths = np.array([len(answer) + 1 for answer in self.prompt.answers])
        return [row / lengths[own] for row, own in zip(found, labels, strict=True)]

    def _yes_no(self, shared: SharedPrompt, trunks: list[Ints], labels: list[Ints]) -> list[Floats]:
        found = self._branches.logits(self.model, shared.ids, shared.memory, trunks, labels)
        cuts = np.cumsum([len(own) for own in labels])[:-1]
        return np.split(found.double().cpu().numpy(), cuts)

    def _decode(
        self, shared: SharedPrompt, trunks: list[Ints], labels: list[Ints]
    ) -> list[list[listing.Step]]:
        tries = [self._list_tries_of(own) for own in labels]
        at = self.scoring
        return listing.decode(shared, self.prompt, trunks, tries, at.max_labels, at.stop_bias, at.tolerance)

    def _trie_of(self, labels: Ints) -> Trie:
        if len(labels) == self.n_labels:
            return self._trie
        return Trie.build([(*self.prompt.answers[i], self.prompt.terminator) for i in labels])

    def _list_tries_of(self, labels: Ints) -> listing.ListTries:
        whole = len(labels) == self.n_labels
        return self._list_tries if whole else listing.ListTries.build(self.prompt, labels.tolist())

    @cached_property
    def _trie(self) -> Trie:
        return Trie.build([(*answer, self.prompt.terminator) for answer in self.prompt.answers])

    @cached_property
    def _list_tries(self) -> listing.ListTries:
        return listing.ListTries.build(self.prompt, range(self.n_labels))

    @cached_property
    def _branches(self) -> Branches:
        return Branches.build(self.prompt, range(self.n_labels))

    @cached_property
    def _tree_tokens(self) -> int:
        """Tokens that a text's tree adds to its trunk, about."""
        if self.prompt.form == "each":
            return len(self._branches.trie)
        return _GROWN_NODES if self._grows else len(self._trie.inner)

    @property
    def _grows(self) -> bool:
        """Whether trees are opened where the probability is, and not whole."""
        return self.scoring.tolerance > 0 and self.model.shares

    @property
    def _forward_tokens(self) -> int:
        """Budget of a forward with growing trees; on a CPU products of 512 rows are as fast as larger ones."""
        return min(self.max_tokens, 512) if self.model.device.type == "cpu" else self.max_tokens

    def save(self, folder: Path) -> dict[str, Any]:
        """Adapter, config and tokenizer files in the layout of peft and transformers."""
        self.model.model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft writes a card of its own
        self.model.inner.config.save_pretrained(folder)
        self.prompt.tokenizer.save_pretrained(folder)
        if self.shortlist is not None:
            self.shortlist.save(folder)
        if self.nearest is not None:
            self.nearest.save(folder)
        prompt = self.prompt
        return {
            "prompt": {
                "form": prompt.form,
                "text": prompt.text.to_json(),
                "answers": list(prompt.verbalizer.answers),
                "listed": list(prompt.verbalizer.listed),
                "shots": [[shot.text, list(shot.labels)] for shot in prompt.shots],
                "hash": prompt.hash,
            },
            "scoring": {key: getattr(self.scoring, key) for key in self.scoring.__dataclass_fields__},
            "shortlist": None if self.shortlist is None else self.shortlist.size,
            **({} if self.nearest is None else {"nearest_shots": self.nearest.size}),
            "max_length": prompt.max_length,
            "truncation": prompt.truncation,
            **saved_long_texts(prompt.long, ""),  # the prompt's own hash covers it
            "dtype": str(self.model.inner.dtype).removeprefix("torch."),
        }
