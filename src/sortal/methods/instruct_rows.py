"""Texts as the language model sees them below the shared prompt, and the losses of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.language_model import LanguageModel
from sortal.backbone.trees import Memory, TreeRow
from sortal.backbone.windows import combined
from sortal.methods.nearest_shots import Examples
from sortal.prompting.prompt import Prompt
from sortal.prompting.trie import Trie
from sortal.training.losses import Loss

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trunks:
    """Every text with what stands before it below the shared prompt and the answer cue after it.

    A text in several windows is as many sequences: those of `unrolled`.

    candidates: int64 ``[n, K]``, the labels listed beside each text; None when the shared prompt lists them for all.
    examples: of each text; None when the shared prompt shows those of all. There are none beside texts in windows.
    """

    prompt: Prompt
    texts: EncodedTexts
    candidates: Ints | None = None
    examples: Examples | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, i: int) -> Ints:
        text: Ints = self.texts[i].astype(np.int64)
        if self.candidates is None and self.examples is None:
            return text
        before = self.prompt.tail if self.examples is None else self.examples[i]
        if self.candidates is None:
            return np.concatenate([before, text])
        return np.concatenate([self.prompt.label_list(self.candidates[i].tolist()), before, text])

    @cached_property
    def unrolled(self) -> Trunks:
        """Every window as a text of its own, with its text's candidates."""
        if self.texts.firsts is None:
            return self
        owners = self.texts.owners(np.arange(len(self.texts)))
        candidates = None if self.candidates is None else self.candidates[owners]
        return Trunks(self.prompt, self.texts.unrolled, candidates)

    @cached_property
    def shared(self) -> Ints:
        """Ids that all texts share."""
        return self.prompt.shared() if self.candidates is None else self.prompt.head

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of every text's trunks, int64 ``[n]``."""
        if self.examples is not None:
            return self._own_lists + self.examples.lengths + self.texts.lengths
        if self.candidates is None:
            return self.texts.lengths
        if self.texts.firsts is not None:
            sums: Ints = np.add.reduceat(self.unrolled.lengths, self.texts.firsts[:-1])
            return sums
        return self._own_lists + len(self.prompt.tail) + self.texts.lengths

    @property
    def _own_lists(self) -> Ints:
        """Tokens of the label list beside every text."""
        if self.candidates is None:
            return np.zeros(len(self.texts), np.int64)
        return np.array([len(self.prompt.label_list(row.tolist())) for row in self.candidates], np.int64)

    def owners(self, rows: Ints, device: torch.device) -> torch.Tensor | None:
        """Of each window of some texts, the place of its text in ``rows``; None where each text is one window."""
        owners = self.texts.owners(rows)
        return None if len(owners) == len(rows) else torch.from_numpy(owners).to(device)


class ResponseLoss:
    """−log p(answer | text), the sum over the answer's tokens and its terminator; of a text in windows, what they say together.

    Args:
        labels: positions of each row's labels.
        weights: fp32 ``[n]``, of each row's loss.
        shuffle, listed: whether the labels are listed in a new order at every step, and how many of them (None: all).
    """

    def __init__(
        self,
        model: LanguageModel,
        trunks: Trunks,
        labels: Sequence[Sequence[int]],
        n_labels: int,
        *,
        weights: torch.Tensor,
        seed: int = 0,
        shuffle: bool = False,
        listed: int | None = None,
    ) -> None:
        self.model, self.trunks, self.labels, self.n_labels = model, trunks, labels, n_labels
        self.weights = weights.to(model.device)
        self.seed, self.shuffle, self.listed = seed, shuffle, listed
        self.responses = [np.array(trunks.prompt.response(row), np.int64) for row in labels]
        # The terminator is predicted, never read.
        answers = np.array([len(r) - 1 for r in self.responses], np.int64)
        windows = 1 if trunks.texts.firsts is None else np.diff(trunks.texts.firsts)
        self.lengths = trunks.lengths + windows * answers
        self.shared = trunks.shared
        self.shared_tokens = len(self.shared)

    def prepare(self, batch: Ints, step: int) -> None:
        """Draw the order of the listed labels; a step's own labels are always among them."""
        if not self.shuffle and self.listed is None:
            return
        rng = np.random.default_rng([self.seed, 1, step])
        order = rng.permutation(self.n_labels)
        if self.listed is not None:
            own = sorted({label for i in batch for label in self.labels[i]})
            others = order[~np.isin(order, own)][: max(self.listed - len(own), 0)]
            order = order[np.isin(order, [*own, *others.tolist()])]
        if not self.shuffle:
            order = np.sort(order)
        self.shared = self.trunks.prompt.shared(order.tolist())
        self.shared_tokens = len(self.shared)

    def losses(self, rows: Ints) -> torch.Tensor:
        """See `Objective.losses`."""
        trunks, windows = self.trunks.unrolled, self.trunks.texts.windows_of(rows)
        responses = [self.responses[rows[i]] for i in self.trunks.texts.owners(rows)]
        sequences = [
            np.concatenate([trunks[i], response[:-1]])
            for i, response in zip(windows.tolist(), responses, strict=True)
        ]
        lengths = [len(response) for response in responses]
        ends = np.cumsum([len(ids) for ids in sequences])
        at = np.concatenate([end - n + np.arange(n) for end, n in zip(ends, lengths, strict=True)])
        states = self.model.states([TreeRow(ids) for ids in sequences], self.shared, read=at)
        targets = torch.from_numpy(np.concatenate(responses)).to(states.device)
        logprobs = self.model.token_logprobs(states, targets)
        owner = torch.from_numpy(np.repeat(np.arange(len(windows)), lengths)).to(states.device)
        said = torch.zeros(len(windows), device=states.device).index_add(0, owner, logprobs)
        total = combined(said, self.trunks.owners(rows, said.device), self.trunks.prompt.long.aggregation)
        return -total * self.weights[torch.from_numpy(rows).to(self.weights.device)]


class EachLoss:
    """BCE on the yes–no logit difference of every label, all labels of a text in one tree; the mean over labels.

    Labels without a yes are sampled: at every step each row is asked about ``negatives`` of them, weighted so that the expected
    loss is that over all labels.
    """

    def __init__(
        self,
        model: LanguageModel,
        trunks: Trunks,
        gold: npt.NDArray[np.uint8],
        loss: Loss,
        *,
        negatives: int,
        seed: int = 0,
    ) -> None:
        self.model, self.trunks, self.gold, self.negatives, self.seed = model, trunks, gold, negatives, seed
        self.loss = loss.to(model.device)
        self.branches = Branches.build(trunks.prompt, range(gold.shape[1]))
        per_label = len(self.branches.trie) / gold.shape[1]
        tree = np.ceil((gold.sum(1) + negatives).clip(max=gold.shape[1]) * per_label).astype(np.int64)
        windows = 1 if trunks.texts.firsts is None else np.diff(trunks.texts.firsts)
        self.lengths = trunks.lengths + windows * tree
        self.shared_tokens = len(trunks.shared)
        self.asked: dict[int, Ints] = {}

    def prepare(self, batch: Ints, step: int) -> None:
        """Draw the labels that each row of the step is asked about."""
        self.asked = {}
        for i in batch.tolist():
            allowed = np.arange(self.gold.shape[1])
            if self.trunks.candidates is not None:
                allowed = self.trunks.candidates[i]
            positive, negative = allowed[self.gold[i, allowed] == 1], allowed[self.gold[i, allowed] == 0]
            if len(negative) > self.negatives:
                rng = np.random.default_rng([self.seed, 2, step, i])
                negative = rng.choice(negative, self.negatives, replace=False)
            self.asked[i] = np.sort(np.concatenate([positive, negative]))

    def losses(self, rows: Ints) -> torch.Tensor:
        """See `Objective.losses`."""
        asked = [self.asked[i] for i in rows.tolist()]
        windows = self.trunks.texts.windows_of(rows)
        of_windows = [asked[i] for i in self.trunks.texts.owners(rows)]
        trunks = self.trunks.unrolled
        found = self.branches.logits(
            self.model, self.trunks.shared, None, [trunks[i] for i in windows.tolist()], of_windows
        )
        n, width = len(rows), self.gold.shape[1]
        where = torch.from_numpy(
            np.concatenate([i * width + labels for i, labels in enumerate(of_windows)]).astype(np.int64)
        ).to(found.device)
        spread = torch.zeros(len(windows) * width, device=found.device).index_copy(0, where, found)
        logits = combined(
            spread.view(len(windows), width),
            self.trunks.owners(rows, found.device),
            self.trunks.prompt.long.aggregation,
        )
        targets = self.gold[rows]
        weights = np.zeros((n, width), np.float32)
        for i, labels in enumerate(asked):
            allowed = width if self.trunks.candidates is None else self.trunks.candidates.shape[1]
            positive = targets[i, labels] == 1
            weights[i, labels] = np.where(
                positive, 1.0, (allowed - positive.sum()) / max((~positive).sum(), 1)
            )
        losses = self.loss.per_label(logits, torch.from_numpy(targets).to(found.device).float())
        scale = width if self.trunks.candidates is None else int(self.trunks.candidates.shape[1])
        weighted: torch.Tensor = losses * torch.from_numpy(weights).to(found.device)
        return weighted.sum(-1) / scale


@dataclass(frozen=True)
class Branches:
    """Form ``each``: a trie of the questions about ``labels``; ``trie.ends`` are in their order."""

    trie: Trie
    yes_no: tuple[int, int]

    @classmethod
    def build(cls, prompt: Prompt, labels: Sequence[int]) -> Branches:
        """The questions about ``labels``."""
        return cls(Trie.build([prompt.branches[i] for i in labels], terminated=False), prompt.yes_no)

    def logits(
        self,
        model: LanguageModel,
        prompt: Ints,
        memory: Memory | None,
        trunks: Sequence[Ints],
        asked: Sequence[Ints],
    ) -> torch.Tensor:
        """Yes–no logit differences, fp32 ``[Σ labels asked]``, text after text; ``asked``: positions in `trie.ends`."""
        rows, at, start = [], [], 0
        for trunk, labels in zip(trunks, asked, strict=True):
            ends = self.trie.ends[labels]
            nodes = np.flatnonzero(self.trie.ancestors[ends].any(0))
            nodes = nodes[nodes > 0]
            rows.append(self.trie.row(trunk, nodes))
            at.append(start + len(trunk) + np.searchsorted(nodes, ends))
            start += len(trunk) + len(nodes)
        states = model.states(rows, prompt, memory, read=np.concatenate(at))
        answers = model.token_logits(states, self.yes_no)
        return answers[:, 0] - answers[:, 1]
