"""A prompt as token ids: what all texts share, what goes around each text, and every label's answer.

The same object renders for training, evaluation, prediction and serving; its hash is saved with the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.backbone.encoding import EncodedTexts, TextEncoder, cut, encode_after, encode_literal
from sortal.backbone.longtexts import PLAIN, LongTexts
from sortal.backbone.template import Template, own_prefix
from sortal.errors import ConfigError, ModelError
from sortal.prompting.shots import SHOT_TOKENS, EncodedShot, Shot
from sortal.prompting.template import Form, PromptText
from sortal.prompting.verbalizer import Verbalizer

Ints = npt.NDArray[np.int64]
TEXT_TOKENS = 256
_YES_NO = (" yes", " no")
_SEPARATORS = (",", ";", "|", "/", "#")


@dataclass(frozen=True)
class Prompt:
    """Ids of a prompt for one tokenizer.

    Args:
        text: the prompt's strings.
        form: what an answer is.
        verbalizer: wordings in label-space order.
        max_length: tokens of the longest sequence: prompt, text and answer; None: the prompt and `TEXT_TOKENS` of text.
        truncation: which part of a too long text is kept.
        shots: examples that every prompt shows.
        max_labels: form ``list``: most labels of an answer.
        long: how sections and windows of a text are read; the prompt stands around every window.
        nearest: how many examples are chosen for each text; they stand before it, below the prompt that all share.
    """

    tokenizer: Any
    text: PromptText
    form: Form
    verbalizer: Verbalizer
    max_length: int | None = None
    truncation: str = "head"
    shots: tuple[Shot, ...] = ()
    max_labels: int = 1
    long: LongTexts = PLAIN
    nearest: int = 0

    # what all texts share

    def shared(self, order: Sequence[int] | None = None) -> Ints:
        """The prompt up to the text; ``order``: which labels are listed, in which order (default: all)."""
        parts = [self.head, self.label_list(order)]
        return np.concatenate(parts if self.nearest else [*parts, self.tail])

    @cached_property
    def head(self) -> Ints:
        """Ids before the label list, with the tokenizer's own first token exactly once."""
        before = self.text.before.rstrip(" ") if self.text.lists_labels else self.text.before
        ids = self._literal("", before) if before else []
        first = list(own_prefix(self.tokenizer))
        return np.array(ids if ids[: len(first)] == first else first + ids, dtype=np.int64)

    def label_list(self, order: Sequence[int] | None = None) -> Ints:
        """Ids of the listed labels; empty when the template lists none."""
        if not self.text.lists_labels:
            return np.zeros(0, np.int64)
        order = range(len(self._items)) if order is None else order
        pieces: list[int] = []
        for number, label in enumerate(order):
            pieces += self._first_items[label] if number == 0 else self._items[label]
        return np.array(pieces, dtype=np.int64)

    @cached_property
    def tail(self) -> Ints:
        """Ids between the label list and the text, the examples of all texts included."""
        return self.before_text(self.shots)

    def before_text(self, shots: Sequence[Shot | EncodedShot]) -> Ints:
        """Ids between the label list and a text that is shown ``shots``; white space before the text goes with the text."""
        ids: list[int] = []
        context, words = self._after_list, self.text.between
        for shot in shots:
            shown, words = self._shot(shot, context, words)
            ids, context = ids + shown, "x"
        words = (words + self.text.query).rstrip(" ")
        return np.array(ids + (self._literal(context, words) if words else []), dtype=np.int64)

    def shot_encoder(self) -> TextEncoder:
        """Encodes the texts of examples as they stand behind another example; each is cut to `SHOT_TOKENS`."""
        before, _, end = self._example
        before = end + before
        lead = before.rstrip(" ")
        nothing = Template(self.text.source, (), ())
        return TextEncoder(
            self.tokenizer, nothing, SHOT_TOKENS, self.truncation, before[len(lead) :], lead[-1:] or "x"
        )

    def _shot(self, shot: Shot | EncodedShot, context: str, words: str) -> tuple[list[int], str]:
        """Ids of an example with the ``words`` before it, up to its answer; and the words after that, which are encoded with
        what follows them: a blank line's tokens depend on it."""
        before, after, end = self._example
        before, cue = words + before, after.rstrip(" ")
        lead = before.rstrip(" ")
        if isinstance(shot, EncodedShot):
            ids = shot.ids
        else:
            (found,) = encode_after(self.tokenizer, lead[-1:] or context, [before[len(lead) :] + shot.text])
            ids = cut(np.array(found, np.int32), min(len(found), SHOT_TOKENS), self.truncation)
        return [
            *(self._literal(context, lead) if lead else []),
            *ids.tolist(),
            *self._literal("x", cue),
            *self._shown_answer(after[len(cue) :], cue[-1:], shot.labels),
        ], end

    @property
    def _example(self) -> tuple[str, str, str]:
        """What stands before an example's text, between that and its answer, and after it."""
        if self.text.example is None:
            raise ConfigError(
                "this template has no place for examples",
                "put {examples} before the text, or leave out shots",
            )
        before, _, rest = self.text.example.partition("{text}")
        after, _, end = rest.partition("{answer}")
        return before, after, end

    def _shown_answer(self, lead: str, context: str, labels: tuple[int, ...]) -> list[int]:
        if labels not in self._shown_answers:
            answer = lead + self.listed_answer(labels)
            self._shown_answers[labels] = encode_after(self.tokenizer, context, [answer])[0]
        return self._shown_answers[labels]

    @cached_property
    def _shown_answers(self) -> dict[tuple[int, ...], list[int]]:
        """Ids of answers as examples show them: the same few stand before every text."""
        return {}

    def listed_answer(self, labels: Sequence[int]) -> str:
        """The wording of a row's labels, in label-space order."""
        wordings = [self.verbalizer.answers[i] for i in sorted(labels)]
        return wordings[0] if len(wordings) == 1 else f"{self.separator_text} ".join(wordings)

    # around each text

    @cached_property
    def cue(self) -> Ints:
        """Ids from the text's end to the answer."""
        return np.array(self._literal("x", self.text.after.rstrip(" ")), dtype=np.int64)

    def encoder(self, listed: int = 0) -> TextEncoder:
        """Encodes texts with the cue after them.

        Args:
            listed: tokens of a label list that stands beside each text instead of in the shared prompt.

        Raises:
            ConfigError: the prompt leaves no room for a text, or nothing comes after the text.
        """
        if not len(self.cue):
            raise ConfigError(
                f"template {self.text.source!r} has no words after {{text}}, so an empty text would have no state to read",
                "end it with an answer cue such as '\\nLabel:'",
            )
        fixed = self._fixed(listed)
        limit = self.max_length if self.max_length is not None else fixed + TEXT_TOKENS
        if limit <= fixed:
            raise ConfigError(
                f"max_length {limit} leaves no room for a text: the prompt with its answer has {fixed} tokens",
                f"set max_length above {fixed}, list fewer labels (--shortlist), or use a shorter template",
            )
        template = Template(self.text.source, (), tuple(self.cue.tolist()))
        return TextEncoder(
            self.tokenizer,
            template,
            limit - fixed + len(self.cue),
            self.truncation,
            self._text_lead,
            self._before_text.rstrip(" ")[-1:] or self._after_list,
            self.long,
        )

    def _fixed(self, listed: int) -> int:
        shared = len(self.head) + len(self.tail) + (listed or len(self.label_list()))
        return shared + len(self.cue) + self.longest_answer

    def room_before(self, listed: int = 0) -> int:
        """Tokens that `before_text` and a text with its cue may take up together; for a prompt with a ``max_length``."""
        assert self.max_length is not None
        return self.max_length - self._fixed(listed) + len(self.tail) + len(self.cue)

    def longest(self, shortlist: int | None = None) -> int:
        """Tokens of the longest sequence with a text; with ``shortlist`` of the longest so many labels listed."""
        if self.max_length is not None:
            return self.max_length
        return self._fixed(self.listed_tokens(shortlist) if shortlist else 0) + TEXT_TOKENS

    def listed_tokens(self, size: int) -> int:
        """Tokens of the longest list of ``size`` labels; 0 where the template lists none."""
        if not self.text.lists_labels:
            return 0
        widths = [max(map(len, pair)) for pair in zip(self._items, self._first_items, strict=True)]
        return sum(sorted(widths, reverse=True)[:size])

    def encode(self, texts: Iterable[str], listed: int = 0) -> EncodedTexts:
        """Texts with the cue after them."""
        return self.encoder(listed).encode(texts)

    # answers

    @cached_property
    def terminator(self) -> int:
        """The token that ends an answer.

        Raises:
            ModelError: the tokenizer has no end-of-sequence token.
        """
        if self.tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end-of-sequence token to end an answer with", "add one")
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def answers(self) -> tuple[tuple[int, ...], ...]:
        """Ids of every label's wording right after the cue, without the terminator."""
        return self._wordings(self._answer_context, self._answer_lead)

    @cached_property
    def later_answers(self) -> tuple[tuple[int, ...], ...]:
        """Ids of every label's wording after a separator."""
        return self._wordings(self.separator_text, " ")

    @cached_property
    def separator_text(self) -> str:
        """What stands between two labels of a list answer: the first of a few signs that no wording contains.

        Raises:
            ConfigError: every one occurs in some wording.
        """
        for sign in _SEPARATORS:
            if not any(sign in wording for wording in self.verbalizer.answers):
                return sign
        raise ConfigError(
            f"list answers need a separator, and every one of {' '.join(_SEPARATORS)} occurs in a label",
            "use answer 'each', or give other wordings in a verbalizer file",
        )

    @cached_property
    def separator(self) -> tuple[int, ...]:
        """Ids between two labels of a list answer."""
        return tuple(encode_after(self.tokenizer, "x", [self.separator_text])[0])

    @cached_property
    def branches(self) -> tuple[tuple[int, ...], ...]:
        """Form ``each``: ids that ask for one label's yes or no, right after the cue.

        Without a list in the prompt nothing else says what a label stands for, so its description is part of the question.
        """
        lead = "" if self.text.format == "chat" else "\n"
        labels = self.verbalizer.answers if self.text.lists_labels else self.verbalizer.listed
        asked = [f"{lead}{wording}:" for wording in labels]
        return self._distinct(encode_after(self.tokenizer, self.text.after[-1:], asked))

    @cached_property
    def yes_no(self) -> tuple[int, int]:
        """The tokens that stand for yes and no after a branch."""
        yes, no = (ids[0] for ids in encode_after(self.tokenizer, ":", list(_YES_NO)))
        if yes == no:  # byte-level vocabularies spell words out: take the letters
            yes, no = (ids[1] for ids in encode_after(self.tokenizer, ":", list(_YES_NO)))
        return yes, no

    def response(self, labels: Sequence[int]) -> list[int]:
        """Ids of a row's whole answer with its terminator; several labels in label-space order."""
        ids: list[int] = []
        for number, label in enumerate(sorted(labels)):
            ids += self.answers[label] if number == 0 else [*self.separator, *self.later_answers[label]]
        return [*ids, self.terminator]

    @cached_property
    def longest_answer(self) -> int:
        """Tokens of the longest answer, terminator included."""
        longest = 1 + max(map(len, self.branches if self.form == "each" else self.answers))
        if self.form != "list":
            return longest
        later = sorted((len(self.separator) + len(ids) for ids in self.later_answers), reverse=True)
        return longest + sum(later[: self.max_labels - 1])

    def is_one_token(self, wording: str) -> bool:
        """Whether ``wording`` is a single token where an answer stands."""
        return len(encode_after(self.tokenizer, self._answer_context, [self._answer_lead + wording])[0]) == 1

    @property
    def hash(self) -> str:
        """First 16 hex digits of a SHA-256 over all ids: two models with equal hashes read and answer alike."""
        parts: list[Any] = [
            self.form,
            self.shared().tolist(),
            self._text_lead,
            self.cue.tolist(),
            self.terminator,
            self.answers,
        ]
        if self.form == "list":
            parts += [self.separator, self.later_answers]
        if self.form == "each":
            parts += [self.branches, self.yes_no]
        every = range(len(self.verbalizer.listed))
        parts += [self.label_list([i]).tolist() for i in every]
        if self.nearest:
            nothing = np.zeros(0, np.int32)
            sets = [(i,) for i in every] + ([tuple(every)] if self.form != "label" else [])
            shown = self.before_text([EncodedShot(nothing, labels) for labels in sets])
            parts += [self.nearest, SHOT_TOKENS, shown.tolist()]
        return self.long.hash(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16])

    # encoding

    @property
    def _text_lead(self) -> str:
        """White space before the text, which is encoded with it."""
        return self._before_text[len(self._before_text.rstrip(" ")) :]

    @property
    def _before_text(self) -> str:
        """The words between the label list, or the last example's answer, and the text."""
        words = self.text.between
        if (self.shots or self.nearest) and self.text.example is not None:
            words = self.text.example.partition("{answer}")[2]
        return words + self.text.query

    @property
    def _after_list(self) -> str:
        """What the words after the label list are encoded behind: a label's end, or what stands before them."""
        return "x" if self.text.lists_labels else self.text.before[-1:]

    @property
    def _answer_context(self) -> str:
        return self.text.after.rstrip(" ")[-1:]

    @property
    def _answer_lead(self) -> str:
        return "" if self.text.format == "chat" or self._answer_context.isspace() else " "

    def _wordings(self, context: str, lead: str) -> tuple[tuple[int, ...], ...]:
        wordings = self.verbalizer.answers
        # The lead alone shows what is left of a wording that has no tokens.
        nothing, *found = encode_after(self.tokenizer, context, [lead, *(lead + w for w in wordings)])
        for wording, ids in zip(wordings, found, strict=True):
            if ids in ([], nothing):
                raise ConfigError(
                    f"the wording {wording!r} has no tokens in this model's vocabulary",
                    "give the label another wording in a verbalizer file",
                )
        return self._distinct(found)

    def _distinct(self, found: list[list[int]]) -> tuple[tuple[int, ...], ...]:
        twins: dict[tuple[int, ...], str] = {}
        for wording, ids in zip(self.verbalizer.answers, found, strict=True):
            if (other := twins.setdefault(tuple(ids), wording)) != wording:
                raise ConfigError(
                    f"the wordings {other!r} and {wording!r} are the same tokens in this model's vocabulary",
                    "give one of them another wording in a verbalizer file",
                )
        return tuple(tuple(ids) for ids in found)

    @cached_property
    def _items(self) -> list[list[int]]:
        lead = "\n" if self.text.one_per_line else ", "
        return encode_after(self.tokenizer, "x", [lead + listed for listed in self.verbalizer.listed])

    @cached_property
    def _first_items(self) -> list[list[int]]:
        before = self.text.before
        white = before[len(before.rstrip(" ")) :]
        context = before.rstrip(" ")[-1:]
        return encode_after(self.tokenizer, context, [white + listed for listed in self.verbalizer.listed])

    def _literal(self, context: str, text: str) -> list[int]:
        """See `encode_literal`; kept, for examples need the same few before every text."""
        if (context, text) not in self._literals:
            self._literals[context, text] = encode_literal(self.tokenizer, context, text)
        return self._literals[context, text]

    @cached_property
    def _literals(self) -> dict[tuple[str, str], list[int]]:
        return {}
