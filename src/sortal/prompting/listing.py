"""Form ``list``: the labels one after another, decoded under the automaton of answers that training can have shown.

After every label only later labels, or the end, may follow. Each step of the greedy decoding has a distribution over exactly these
choices; a label's score is the logit of the largest probability that any step gave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from sortal.prompting.prompt import Prompt
from sortal.prompting.scoring import SharedPrompt, answer_logprobs
from sortal.prompting.trie import Trie

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
STOP_BIASES = (0.0, 1.0, 2.0, 3.0, 4.0)
_CERTAIN = 1e-9  # keeps logits finite: a probability is at most this far from 0 or 1


@dataclass(frozen=True)
class Step:
    """One step of a decoding: log-probabilities of stopping and, ``[labels]``, of each label coming next (−inf: not allowed)."""

    stop: float
    following: Floats

    @property
    def margin(self) -> float:
        """How much likelier the end is than the best label; the decoding goes on while it is below the stop bias."""
        return self.stop - float(self.following.max(initial=-np.inf))


@dataclass(frozen=True)
class ListTries:
    """Tries of the answers to ``labels`` (ascending label positions): as first labels, and after a separator.

    Every label has two ends, the terminator and the separator; ``first`` has one more answer, the empty list.
    """

    labels: Ints
    first: Trie
    later: Trie

    @classmethod
    def build(cls, prompt: Prompt, labels: Sequence[int]) -> ListTries:
        """The tries of a prompt's wordings."""
        ends = (prompt.terminator, prompt.separator[0])
        first = [(*prompt.answers[i], end) for end in ends for i in labels] + [(prompt.terminator,)]
        later = [(*prompt.later_answers[i], end) for end in ends for i in labels]
        return cls(np.array(labels, np.int64), Trie.build(first), Trie.build(later))


def decode(
    shared: SharedPrompt,
    prompt: Prompt,
    trunks: Sequence[Ints],
    tries: Sequence[ListTries],
    max_labels: int,
    stop_bias: float,
    tolerance: float,
) -> list[list[Step]]:
    """Greedy decodings of every text, each as long as the end is less than ``stop_bias`` likelier than the best label.

    Args:
        trunks: ids of each text with its answer cue.
        tries: each text's labels; may be one object many times.
        max_labels: longest list.
        tolerance: see `answer_logprobs`.
    """
    found: list[list[Step]] = [[] for _ in trunks]
    grown = list(trunks)
    stops = np.zeros(len(trunks))
    last = np.full(len(trunks), -1)
    active = list(range(len(trunks)))
    for number in range(max_labels):
        if not active:
            break
        chosen = [tries[i].later if number else tries[i].first for i in active]
        allowed = [np.tile(np.arange(len(tries[i].labels)) > last[i], 2) for i in active] if number else None
        paths = answer_logprobs(shared, [grown[i] for i in active], chosen, tolerance, allowed)
        following = []
        for i, logprobs in zip(active, paths, strict=True):
            labels = tries[i].labels
            n = len(labels)
            ended = logprobs[:n]
            either = np.logaddexp(ended, logprobs[n : 2 * n])
            either[: last[i] + 1] = -np.inf
            if number == 0:
                whole = np.logaddexp(logprobs[2 * n], logsumexp(either))
                step = Step(float(logprobs[2 * n] - whole), either - whole)
            else:
                go_on = np.log(max(-np.expm1(stops[i]), _CERTAIN))
                step = Step(float(stops[i]), go_on + either - logsumexp(either))
            found[i].append(step)
            best = int(step.following.argmax())
            stops[i] = ended[best] - either[best]
            last[i] = best
            wordings = prompt.later_answers if number else prompt.answers
            ids = [*wordings[labels[best]], *prompt.separator]
            grown[i] = np.concatenate([grown[i], np.array(ids, np.int64)])
            if step.margin < stop_bias and best + 1 < n:
                following.append(i)
        active = following
    return found


def logits(steps: Sequence[Step], stop_bias: float) -> Floats:
    """Scores ``[labels]`` of one decoding, ended where ``stop_bias`` ends it.

    Args:
        steps: from `decode` under the same or a larger stop bias.
    """
    best = steps[0].following
    for before, step in pairwise(steps):
        if before.margin >= stop_bias:
            break
        best = np.maximum(best, step.following)
    p = np.clip(np.exp(best), _CERTAIN, 1 - _CERTAIN)
    found: Floats = np.log(p) - np.log1p(-p)
    return found
