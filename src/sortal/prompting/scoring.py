"""log p(answer | text) of every answer, exactly: one tree of tokens below each text, the prompt shared by all.

An answer's probability is the product of its tokens' probabilities, its terminator included. With ``tolerance`` above 0 the
tree is grown where the probability is: branches are left unopened once all of them together hold at most that share of the
answers' probability, which a fine-tuned model reaches after a few nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone.language_model import LanguageModel
from sortal.backbone.trees import Memory, TreeRow
from sortal.prompting.trie import Trie

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Began = Callable[[Sequence[int]], None]
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
    began: Began = lambda texts: None,
) -> list[Floats]:
    """log p of every answer below every text.

    Args:
        trunks: ids of each text with its answer cue.
        tries: each text's answers; may be one object many times.
        tolerance: 0 opens every node in one forward; above 0, answers that are left out share their branch's probability equally, and
            the normalised probabilities are off by at most about this much. Infinity opens only what may hold an answer likelier than
            the best one found: the largest value is at the likeliest answer, and no value is a probability.
        wanted: bool ``[answers]`` per text, those that the tolerance is measured against; the others' values may be anything.
        budget: with a tolerance, tokens of a forward: texts begin where others' trees leave room. None: all begin together.
        began: told the positions of texts that a forward has begun, forward after forward; of all texts at once without a tolerance.

    Returns:
        per text, float64 ``[answers]``.
    """
    if tolerance > 0 and shared.memory is not None:
        return _grown(shared, trunks, tries, tolerance, wanted or [None] * len(trunks), budget, began)
    found = _whole(shared, trunks, tries)
    began(range(len(trunks)))
    return found


def _whole(shared: SharedPrompt, trunks: Sequence[Ints], tries: Sequence[Trie]) -> list[Floats]:
    rows = [trie.row(trunk, trie.inner[1:]) for trunk, trie in zip(trunks, tries, strict=True)]
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
    states = shared.model.states(rows, shared.ids, shared.memory, read=np.concatenate(at))
    edges = _edge_logprobs(shared.model, states, np.concatenate(parents), np.concatenate(tokens))
    result, start = [], 0
    for trie in tries:
        result.append(trie.accumulate(edges[None, start : start + len(trie.edges)])[0, trie.ends])
        start += len(trie.edges)
    return result


def _edge_logprobs(model: LanguageModel, states: torch.Tensor, parents: Ints, tokens: Ints) -> Floats:
    device = states.device
    found = model.edge_logprobs(
        states, torch.from_numpy(parents).to(device), torch.from_numpy(tokens).to(device)
    )
    return found.double().cpu().numpy()


def _first_edges(model: LanguageModel, states: torch.Tensor, tries: Sequence[Trie]) -> list[Floats]:
    """Per text, log-probabilities of its answers' first tokens among themselves.

    Against log p they lack a constant of the text, a sum over the vocabulary, on which the likeliest answer does not depend.
    """
    firsts = [trie.token[trie.children_of(np.zeros(1, np.int64))] for trie in tries]
    tokens = np.unique(np.concatenate(firsts))
    logits = model.logits_of(states, tokens.tolist()).double().cpu().numpy()
    chosen = [row[np.searchsorted(tokens, first)] for row, first in zip(logits, firsts, strict=True)]
    return [row - np.logaddexp.reduce(row) for row in chosen]


@dataclass
class _Growth:
    """What is known of one text's tree; ``text``: its position among the texts."""

    text: int
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
    began: Began,
) -> list[Floats]:
    """Every forward holds the next nodes of trees that grow and, up to ``budget`` tokens, new texts.

    A tree's last nodes alone would be forwards of a few tokens, each of which reads all weights.
    """
    assert shared.memory is not None
    memory = shared.memory.with_prompt_only(grow=True)
    found: list[Floats] = [np.zeros(0)] * len(trunks)
    growing: list[tuple[_Growth, Ints]] = []  # with the nodes to open next
    first = 0  # of the texts that are not begun
    while growing or first < len(trunks):
        room = None if budget is None else budget - sum(len(nodes) for _, nodes in growing)
        after = first + _fitting(islice(trunks, first, None), room, anyway=not growing)
        # A text's last token is the root of its tree.
        active = growing + [
            (_Growth(i, tries[i], trunks[i], wanted[i]), np.zeros(1, np.int64)) for i in range(first, after)
        ]
        rows = [growth.row(nodes) if len(growth.kept) else TreeRow(growth.trunk) for growth, nodes in active]
        ends = np.cumsum([len(row.ids) for row in rows]).tolist()
        places = [end - len(row.ids) + np.arange(len(row.ids)) for end, row in zip(ends, rows, strict=True)]
        # The nodes are the last tokens of their row.
        read = [place[-len(nodes) :] for place, (_, nodes) in zip(places, active, strict=True)]
        before = memory.tokens
        states = shared.model.states(rows, shared.ids, memory, read=np.concatenate(read))
        edges = _edges(shared.model, states, active, len(growing), normalized=tolerance < np.inf)
        growing = []
        for (growth, nodes), place, part in zip(active, places, edges, strict=True):
            growth.learn(nodes, part)
            if len(growth.kept):
                growth.opened = np.concatenate([growth.opened, nodes])
            growth.kept = np.concatenate([growth.kept, before + place])
            if len(opening := growth.to_open(tolerance)):
                growing.append((growth, opening))
            else:
                found[growth.text] = growth.answers()
        _forget_finished(memory, [growth for growth, _ in growing])
        if first < after:
            began(range(first, after))
        first = after
    return found


def _fitting(trunks: Iterable[Ints], room: int | None, anyway: bool) -> int:
    """How many of ``trunks`` fit into ``room`` tokens (None: all); ``anyway``: the first one whatever its length."""
    number = 0
    for trunk in trunks:
        if room is not None:
            room -= len(trunk)
            if room < 0 and (number or not anyway):
                break
        number += 1
    return number


def _edges(
    model: LanguageModel,
    states: torch.Tensor,
    active: Sequence[tuple[_Growth, Ints]],
    grown: int,
    normalized: bool,
) -> list[Floats]:
    """Log-probabilities of the edges below every tree's nodes, whose states are ``states``, tree after tree.

    Args:
        grown: the trees before this place have been begun; the others' nodes are their roots.
        normalized: False leaves out what the edges below one root have in common.
    """
    below = [growth.trie.children_of(nodes) for growth, nodes in active]
    if not normalized and grown < len(active):
        roots = len(active) - grown
        first = _first_edges(
            model, states[len(states) - roots :], [growth.trie for growth, _ in active[grown:]]
        )
        active, states, below = active[:grown], states[: len(states) - roots], below[:grown]
    else:
        first = []
    if not active:
        return first
    parents, found = [], 0
    for (growth, nodes), children in zip(active, below, strict=True):
        parents.append(found + np.searchsorted(nodes, growth.trie.parent[children]))
        found += len(nodes)
    tokens = [growth.trie.token[children] for (growth, _), children in zip(active, below, strict=True)]
    edges = _edge_logprobs(model, states, np.concatenate(parents), np.concatenate(tokens))
    return [*np.split(edges, np.cumsum([len(children) for children in below])[:-1]), *first]


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
