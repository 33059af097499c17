"""The prompt that a run's settings ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sortal.backbone.template import Template, choose_pad
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.data.sections import plain_text
from sortal.errors import ConfigError
from sortal.methods.text_folder import long_texts
from sortal.prompting.prompt import Prompt
from sortal.prompting.shots import Shot
from sortal.prompting.template import Form, make_prompt_text
from sortal.prompting.verbalizer import Verbalizer, make_verbalizer

Ints = npt.NDArray[np.int64]


def answer_form(config: RunConfig, space: LabelSpace) -> Form:
    """What an answer is: one label, a list, or a yes or no for each."""
    if space.task == "single":
        return "label"
    return "each" if config.answer == "auto" else config.answer


def make_prompt(
    config: RunConfig, space: LabelSpace, tokenizer: Any, train: Dataset, gold: npt.NDArray[Any]
) -> tuple[Prompt, Ints]:
    """The prompt, and the positions of the training rows that do not stand in it as examples.

    Raises:
        ConfigError: template, wordings, examples or lengths that cannot work together. ModelError: no chat template.
    """
    form = answer_form(config, space)
    if tokenizer.eos_token_id is not None and tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.pad_token = choose_pad(tokenizer, Template("", (), (int(tokenizer.eos_token_id),)))
    # For whoever generates with the saved folder; the side is saved only as an argument of the tokenizer's class.
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
    text = make_prompt_text(config.template_source, form, tokenizer, config.prompt_format)
    draft = Prompt(tokenizer, text, form, Verbalizer(space.names, space.names))
    # Ways to labels of one branch begin alike, so that their answers share the beginning in the tree of tokens.
    said = None if space.tree is None else tuple(map(space.tree.wording, space.names))
    verbalizer = make_verbalizer(config.verbalizer, space.names, draft.is_one_token, said)
    nearest = config.shots if config.shot_choice == "nearest" else 0
    per_label = 0 if nearest else config.shots
    shots, kept = choose_shots(gold, len(space), per_label, config.seed), np.arange(len(train))
    examples = tuple(
        Shot(plain_text(shown), labels)
        for shown, labels in zip(train.text_at(shots), gold_positions(gold[shots]), strict=True)
    )
    if (examples or nearest) and text.example is None:
        raise ConfigError(
            f"template {config.template_source!r} with answer {form!r} has no place for examples",
            "put {examples} before the text, or leave out shots",
        )
    kept = np.setdiff1d(kept, shots)
    if len(kept) == 0:
        raise ConfigError(
            f"shots {config.shots} puts every training row into the prompt", "lower shots, or give more rows"
        )
    most = max(1, int(gold.sum(1).max(initial=1))) if form == "list" else 1
    prompt = Prompt(
        tokenizer,
        text,
        form,
        verbalizer,
        config.max_length,
        config.truncation,
        examples,
        most,
        long_texts(config),
        nearest,
    )
    # Refuses, before a model is loaded, wordings the tokenizer cannot tell apart and a prompt without room for a text.
    _ = prompt.hash
    prompt.encoder(prompt.listed_tokens(config.shortlist) if config.shortlist else 0)
    return prompt, kept


def choose_shots(gold: npt.NDArray[Any], n_labels: int, per_label: int, seed: int) -> Ints:
    """Rows that show each label ``per_label`` times where there are so many, in random order; int64, no row twice."""
    rng = np.random.default_rng([seed, 3])
    chosen: list[int] = []
    for label in range(n_labels) if per_label else []:
        rows = np.flatnonzero(gold == label if gold.ndim == 1 else gold[:, label] == 1)
        fresh = np.setdiff1d(rows, chosen)
        chosen += rng.permutation(fresh)[:per_label].tolist()
    return rng.permutation(np.array(chosen, dtype=np.int64))


def gold_positions(gold: npt.NDArray[Any]) -> list[tuple[int, ...]]:
    """Positions of every row's labels, from int ``[n]`` or 0/1 ``[n, L]``."""
    if gold.ndim == 1:
        return [(int(label),) for label in gold]
    return [tuple(np.flatnonzero(row).tolist()) for row in gold]


def check_positions(longest: int, settings: Any) -> None:
    """Refuse sequences of ``longest`` tokens that are longer than the model can count."""
    limit = getattr(settings, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise ConfigError(
            f"prompt, text and answer have up to {longest:,} tokens and the model reads {limit:,}",
            f"set max_length to {limit:,} or less, list fewer labels (--shortlist), or show fewer examples",
        )
