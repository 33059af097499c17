"""log p(answer | text) of every answer, exactly: one tree of tokens below each text, the prompt shared by all.

An answer's probability is the product of its tokens' probabilities, its terminator included. With ``tolerance`` above 0 the
tree is grown where the probability is: branches are left unopened once all of them together hold at most that share of the
answers' probability, which a fine-tuned model reaches after a few nodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.language_model import LanguageModel
from sortal.backbone.trees import Memory, TreeRow
from sortal.prompting.trie import Trie

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# Before any answer is complete, what is opened: branches at least this likely, relative to the likeliest one.
_FIRST_LOOK = 0.05
_FIRST_LOOK_FOR_BEST = 0.5


@dataclass(frozen=True)
class SharedPrompt:
    """The shared prompt under the current weights: in memory where the model can share it, else as ids before every text."""

    model: LanguageModel
    ids: Ints
    memory: Memory | None

    @classmethod
    def compute(cls, model: LanguageModel, ids: Ints) -> SharedPrompt:
        """Compute keys and values of ``ids``; anew whenever weights have changed."""
        if not model.shares:
            return cls(model, ids, None)
        return cls(model, ids[:0], model.remember(ids))


def answer_logprobs(
    shared: SharedPrompt,
    trunks: Sequence[Ints],
    tries: Sequence[Trie],
    tolerance: float = 0.0,
    wanted: Sequence[Bools] | None = None,
    budget: int | None = None,
) -> list[Floats]:
    """log p of every answer below every text.

    Args:
        trunks: ids of each text with its answer cue.
        tries: each text's answers; may be one object many times.
        tolerance: 0 opens every node in one forward; above 0, answers that are left out share their branch's probability equally, and
            the normalised probabilities are off by at most about this much. Infinity opens only what may hold an answer likelier than
            the best one found: the largest value is at the likeliest answer, and the others say little.
        wanted: bool ``[answers]`` per text, those that the tolerance is measured against; the others' values may be anything.
        budget: with a tolerance, tokens of a forward: texts begin where others' trees leave room. None: all begin together.

    Returns:
        per text, float64 ``[answers]``.
    """
    if tolerance > 0 and shared.memory is not None:
        return _grown(shared, trunks, tries, tolerance, wanted or [None] * len(trunks), budget)
    return _whole(shared, trunks, tries)


def _whole(shared: SharedPrompt, trunks: Sequence[Ints], tries: Sequence[Trie]) -> list[Floats]:
    rows = [trie.row(trunk, trie.inner[1:]) for trunk, trie in zip(trunks, tries, strict=True)]
    states = shared.model.states(rows, shared.ids, shared.memory)
    at, parents, tokens = [], [], []
    start = found = 0
    for trunk, trie, row in zip(trunks, tries, rows, strict=True):
        at.append(
            start + len(trunk) - 1 + np.arange(len(trie.inner))
        )  # the cue's last token, then the inner nodes
        parents.append(found + np.searchsorted(trie.inner, trie.parent[trie.edges]))
        tokens.append(trie.token[trie.edges])
        start += len(row.ids)
        found += len(trie.inner)
    edges = _edge_logprobs(
        shared.model, states, np.concatenate(at), np.concatenate(parents), np.concatenate(tokens)
    )
    result, start = [], 0
    for trie in tries:
        result.append(trie.accumulate(edges[None, start : start + len(trie.edges)])[0, trie.ends])
        start += len(trie.edges)
    return result


def _edge_logprobs(
    model: LanguageModel, states: torch.Tensor, at: Ints, parents: Ints, tokens: Ints
) -> Floats:
    device = states.device
    chosen = states.index_select(0, torch.from_numpy(at).to(device))
    found = model.edge_logprobs(
        chosen, torch.from_numpy(parents).to(device), torch.from_numpy(tokens).to(device)
    )
    return found.double().cpu().numpy()


@dataclass
class _Growth:
    """What is known of one text's tree."""

    trie: Trie
    trunk: Ints
    wanted: Bools | None
    logprob: Floats = field(init=False)
    kept: Ints = field(init=False)
    opened: Ints = field(init=False)
    ends: Ints = field(init=False)
    towards: Bools = field(init=False)  # the nodes on the way to `ends`, the wanted answers

    def __post_init__(self) -> None:
        self.logprob = np.full(len(self.trie), -np.inf)
        self.logprob[0] = 0.0
        self.kept = self.opened = np.zeros(0, np.int64)
        self.ends, self.towards = self.trie.ends, np.ones(len(self.trie), dtype=bool)
        if self.wanted is not None:
            self.ends = self.trie.ends[self.wanted]
            self.towards &= self.trie.ancestors[self.ends].any(0)

    def learn(self, nodes: Ints, edges: Floats) -> None:
        """Log-probabilities of the edges below ``nodes`` (ascending), in the order of `Trie.children_of`."""
        for node in self.trie.children_of(nodes):  # parents before their children
            self.logprob[node] = edges[0] + self.logprob[self.trie.parent[node]]
            edges = edges[1:]

    def to_open(self, tolerance: float) -> Ints:
        """The next nodes whose state is needed; none when what is left unopened is within ``tolerance``."""
        trie, known = self.trie, np.isfinite(self.logprob)
        known[0] = known[self.opened] = known[trie.ends] = False
        known &= self.towards
        front = np.flatnonzero(known)
        if len(front) == 0:
            return front
        mass = np.exp(self.logprob[front])
        complete = np.exp(self.logprob[self.ends])
        if not complete.any():
            least = _FIRST_LOOK_FOR_BEST if tolerance == np.inf else _FIRST_LOOK
            chosen = front[mass >= least * mass.max()]
        elif tolerance == np.inf:
            chosen = front[mass > complete.max()]
        else:
            order = np.argsort(mass, kind="stable")
            left = np.cumsum(mass[order]) <= tolerance * complete.sum()
            chosen = front[order[~left]]
        # A branch that does not fork is opened to its end at once.
        found = set(chosen.tolist())
        for node in chosen.tolist():
            while len(below := trie.children_of(np.array([node]))) == 1 and trie.has_children[below[0]]:
                node = int(below[0])
                found.add(node)
        return np.array(sorted(found), dtype=np.int64)

    def row(self, nodes: Ints) -> TreeRow:
        """``nodes`` below the trunk and the opened nodes, which are in memory."""
        ancestors = self.trie.ancestors[nodes]
        visible = np.concatenate(
            [np.ones((len(nodes), len(self.trunk)), bool), ancestors[:, self.opened], ancestors[:, nodes]],
            axis=1,
        )
        depth = len(self.trunk) + self.trie.depth[nodes] - 1
        return TreeRow(self.trie.token[nodes], depth, visible, self.kept)

    def answers(self) -> Floats:
        """Log-probability of every answer; unknown ones share what their last known ancestor has."""
        trie, found = self.trie, self.logprob.copy()
        for node in range(1, len(trie)):
            parent = trie.parent[node]
            if not np.isfinite(found[node]) and np.isfinite(found[parent]):
                share = np.log(trie.labels_below[node] / trie.labels_below[parent])
                found[node] = found[parent] + share
        return found[trie.ends]


def _grown(
    shared: SharedPrompt,
    trunks: Sequence[Ints],
    tries: Sequence[Trie],
    tolerance: float,
    wanted: Sequence[Bools | None],
    budget: int | None,
) -> list[Floats]:
    """Every forward holds the next nodes of trees that grow and, up to ``budget`` tokens, new texts.

    A tree's last nodes alone would be forwards of a few tokens, each of which reads all weights.
    """
    assert shared.memory is not None
    memory = shared.memory.with_prompt_only(grow=True)
    growths = [_Growth(*given) for given in zip(tries, trunks, wanted, strict=True)]
    waiting = deque(growths)
    growing: list[tuple[_Growth, Ints]] = []  # with the nodes to open next
    while growing or waiting:
        active, used = growing, sum(len(nodes) for _, nodes in growing)
        while waiting and (budget is None or not active or used + len(waiting[0].trunk) <= budget):
            used += len(waiting[0].trunk)
            active.append((waiting.popleft(), np.zeros(1, np.int64)))
        rows = [growth.row(nodes) if len(growth.kept) else TreeRow(growth.trunk) for growth, nodes in active]
        lengths = np.array([len(row.ids) for row in rows])
        ends = np.cumsum(lengths)
        slots = memory.tokens + ends - lengths
        states = shared.model.states(rows, shared.ids, memory)
        at, parents, tokens, counts, found = [], [], [], [], 0
        for (growth, nodes), end in zip(active, ends.tolist(), strict=True):
            at.append(
                end - len(nodes) + np.arange(len(nodes))
            )  # the root's state is the trunk's last token's
            below = growth.trie.children_of(nodes)
            parents.append(found + np.searchsorted(nodes, growth.trie.parent[below]))
            tokens.append(growth.trie.token[below])
            counts.append(len(below))
            found += len(nodes)
        edges = _edge_logprobs(
            shared.model, states, np.concatenate(at), np.concatenate(parents), np.concatenate(tokens)
        )
        growing = []
        for (growth, nodes), part, slot, row in zip(
            active, np.split(edges, np.cumsum(counts)[:-1]), slots.tolist(), rows, strict=True
        ):
            growth.learn(nodes, part)
            if len(growth.kept):
                growth.opened = np.concatenate([growth.opened, nodes])
            growth.kept = np.concatenate([growth.kept, slot + np.arange(len(row.ids))])
            if len(opening := growth.to_open(tolerance)):
                growing.append((growth, opening))
        _forget_finished(memory, [growth for growth, _ in growing])
    return [growth.answers() for growth in growths]


def _forget_finished(memory: Memory, growing: Sequence[_Growth]) -> None:
    """Leave the tokens of trees that grow in ``memory``, once they are the smaller part of it."""
    needed = sum(len(growth.kept) for growth in growing)
    if 2 * needed > memory.tokens:
        return
    memory.keep(np.concatenate([np.zeros(0, np.int64), *(growth.kept for growth in growing)]))
    start = 0
    for growth in growing:
        growth.kept = start + np.arange(len(growth.kept))
        start += len(growth.kept)
