"""Method ``instruct``: instruction-based classification (arXiv 2512.12677), every label's answer scored exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from sortal.backbone import loading
from sortal.backbone.answering import freeze, settle
from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.backbone.lora import add_lora, fuse
from sortal.backbone.sharding import shard_frozen
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, ModelError
from sortal.methods.adapter_folder import attach_adapter, check_base, check_labels, name_labels
from sortal.methods.base import FitContext, Fitted, PreviewContext, Scores
from sortal.methods.base_kind import check_kind
from sortal.methods.instruct_prompt import answer_form, check_positions, gold_positions, make_prompt
from sortal.methods.instruct_rows import EachLoss, ResponseLoss, Trunks
from sortal.methods.instruct_scorer import InstructScorer, Scoring
from sortal.methods.nearest_shots import NearestShots
from sortal.methods.preview import Preview, TokenRow
from sortal.methods.preview_texts import section_lines, token_preview
from sortal.methods.step_budget import budget_steps
from sortal.methods.text_folder import read_long_texts
from sortal.methods.tuning import dev_figures, fine_tune, lengths_line, parameters_line, text_figures
from sortal.prompting import listing
from sortal.prompting.prompt import Prompt
from sortal.prompting.shortlist import Shortlist, cross_fitted, recall
from sortal.prompting.shots import Shot
from sortal.prompting.template import NAMED, PromptText
from sortal.prompting.verbalizer import Verbalizer
from sortal.training.budget import default_max_tokens
from sortal.training.distributed import processes
from sortal.training.losses import make_loss
from sortal.training.objective import Objective

_TOLERANCE = {torch.bfloat16: 1e-3, torch.float32: 1e-5}


class InstructMethod:
    """Fitting and loading of ``instruct``."""

    has_base: ClassVar[bool] = True
    in_steps: ClassVar[bool] = True

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse settings that do not fit the labels."""
        form = answer_form(config, label_space)
        if form != "each":
            for name, off in (
                ("label_smoothing", 0.0),
                ("loss", "auto"),
                ("pos_weight", "none"),
                ("negative_smoothing", 0.0),
                ("logit_adjustment", 0.0),
            ):
                if getattr(config, name) != off:
                    raise ConfigError(
                        f"{name} does not apply to answers that are words: the loss is the answer's own log-probability",
                        f"leave {name} out"
                        + (", or use answer 'each'" if label_space.task == "multi" else ""),
                    )
        if form == "list" and config.class_weight != "none":
            raise ConfigError("class_weight does not apply to answer 'list'", "use answer 'each'")
        if label_space.task == "single" and config.answer != "auto":
            raise ConfigError(
                f"answer {config.answer!r} is for multi-label tasks", "leave it out, or say --task multi"
            )
        if form != "label" and config.length_normalization:
            raise ConfigError(
                "length_normalization is for single-label tasks: scores of several labels are log-odds",
                "leave it out",
            )
        template = NAMED.get(config.template_source, {}).get(form, config.template_source)
        if (config.shuffle_labels or config.listed_labels) and "{labels}" not in template:
            raise ConfigError(
                f"shuffle_labels and listed_labels change the label list, and this prompt (answer {form!r}) has none",
                "leave them out, or use a template with {labels}",
            )
        if config.shortlist and config.shortlist > len(label_space):
            raise ConfigError(
                f"shortlist {config.shortlist} is more than the {len(label_space)} labels of the task",
                "use a smaller number, or leave it out",
            )
        make_loss(config, label_space.task, label_space.names, label_space.encode(train))

    def preview(self, asked: PreviewContext) -> Preview:
        """Whole sequences; the answer's tokens, and nothing else, are predicted."""
        config, train, label_space, rows = asked.config, asked.train, asked.label_space, asked.rows
        base = asked.base
        check_kind(base, "decoder", "instruct")
        tokenizer = loading.load_tokenizer(base.path, trust_remote_code=config.trust_remote_code)
        gold = label_space.encode(train)
        prompt, kept = make_prompt(config, label_space, tokenizer, train, gold)
        train, gold = train.take(kept), gold[kept]
        candidates, examples, labels = None, None, gold_positions(gold)
        if config.shortlist:
            candidates = cross_fitted(train.texts, gold, len(label_space), config.shortlist, config.seed)
        listed = prompt.listed_tokens(config.shortlist) if config.shortlist else 0
        encoder = prompt.encoder(listed)
        texts, room = encoder.encode(train.iter_texts()), prompt.longest(config.shortlist)
        if prompt.nearest:
            pool = NearestShots.fit(train, labels, prompt, asked.view)
            examples = pool.beside(train.texts, texts, prompt, listed, asked.view)
            room = pool.longest(prompt, config.shortlist)
        trunks = Trunks(prompt, texts, candidates, examples)
        shown, answers, longest = [], 0, 0
        for i in range(len(train)):
            if prompt.form == "each":
                response = [*prompt.branches[labels[i][0] if labels[i] else 0]]
                about = f"for every label like this one, the logits of {tokenizer.decode([prompt.yes_no[0]])!r} and {tokenizer.decode([prompt.yes_no[1]])!r} after the last token are compared"
            else:
                response = prompt.response(labels[i])
                about = f"the last {len(response)} are predicted: {tokenizer.decode(response)!r}"
            answers += len(response)
            longest = max(longest, int(trunks.lengths[i]) + len(response))
            windows = trunks.texts.windows_of([i])
            answers += len(response) * (len(windows) - 1)
            if i < rows:
                ids, *others = (
                    [*trunks.shared.tolist(), *trunks.unrolled[j].tolist(), *response] for j in windows
                )
                first = len(ids) - (1 if prompt.form == "each" else len(response))
                read = list(range(first, len(ids)))
                (sections,) = section_lines(encoder, train.text_at([i]))
                more = tuple((each, tokenizer.decode(each)) for each in others)
                shown.append(TokenRow(int(kept[i]), ids, tokenizer.decode(ids), read, about, sections, more))
        tokens = int(trunks.lengths.sum()) + answers
        found = token_preview(shown, texts, encoder, tokens, room, prompt.hash, longest, len(trunks.shared))
        if examples is None:
            return found
        return replace(found, examples=examples.line, example_figures=examples.figures)

    def fit(self, context: FitContext) -> Fitted:
        """Train adapters on ``context.train``; ``context.dev`` has a say in which epoch is kept."""
        config, space, say = context.config, context.label_space, context.say
        check_kind(context.base, "decoder", "instruct")
        torch.manual_seed(config.seed)
        tokenizer = loading.load_tokenizer(context.base.path, trust_remote_code=config.trust_remote_code)
        gold = space.encode(context.train)
        prompt, kept = make_prompt(config, space, tokenizer, context.train, gold)
        train = context.train.take(kept)
        gold = gold[kept]
        if prompt.shots:
            say(f"{len(prompt.shots)} training rows stand in the prompt as examples and are not trained on")
        shortlist, candidates = None, None
        if config.shortlist:
            texts = train.texts
            shortlist = Shortlist.fit(texts, gold, len(space), config.shortlist)
            candidates = cross_fitted(texts, gold, len(space), config.shortlist, config.seed)
        nearest = None
        if prompt.nearest:
            nearest = NearestShots.fit(train, gold_positions(gold), prompt, context.view)
        scorer = self._scorer(context, prompt, shortlist, nearest)
        trunks = scorer.trunks(train.texts, candidates, context.view)
        dev = scorer.trunks(context.dev.texts, view=context.view)
        dev_recall = None
        if dev.candidates is not None:
            dev_recall = recall(dev.candidates, space.encode(context.dev))
            say(
                f"shortlist of {shortlist.size if shortlist else 0}: {100 * dev_recall:.1f} % of the dev labels are among the candidates"
            )
        say(
            f"{prompt.text.source!r} prompt, {prompt.text.format}: {len(trunks.shared):,} tokens shared by all texts"
        )
        encoder = prompt.encoder(prompt.listed_tokens(shortlist.size) if shortlist else 0)
        if trunks.examples is not None:
            say(trunks.examples.line)
        say(lengths_line(trunks.texts, encoder))
        say(parameters_line(scorer.model))
        objective = self._objective(config, space, scorer.model, trunks, gold)
        tuned = fine_tune(
            context,
            scorer.model,
            objective,
            lambda view: scorer.score_encoded(dev, view),
            budget_steps(context, scorer.model, objective),
        )
        settle(scorer.model)  # merged weights round differently: thresholds are for what is loaded
        scorer.frozen = True
        if prompt.form == "list":
            scores = self._tune_stop_bias(scorer, dev, context)
        else:
            scores = scorer.score_encoded(dev, context.view)
        figures: dict[str, Any] = {
            "shares_prompt": scorer.model.shares,
            "prompt_tokens": len(trunks.shared),
            "dtype": str(scorer.model.inner.dtype).removeprefix("torch."),
            "answer": prompt.form,
            **text_figures(trunks.texts, encoder),
            "template_hash": prompt.hash,
            **({} if dev_recall is None else {"shortlist_recall": dev_recall}),
            **({} if trunks.examples is None else trunks.examples.figures),
            **({"stop_bias": scorer.scoring.stop_bias} if prompt.form == "list" else {}),
            **off_set_mass(scorer, scores, say),
            **tuned.figures,
        }
        loss = make_loss(config, space.task, space.names, gold)
        return Fitted(scorer, scores, figures, loss.shifts_probabilities)

    def _scorer(
        self,
        context: FitContext,
        prompt: Prompt,
        shortlist: Shortlist | None,
        nearest: NearestShots | None,
    ) -> InstructScorer:
        config, device = context.config, context.processes.device
        settings = loading.load_config(context.base.path, trust_remote_code=config.trust_remote_code)
        settings.pad_token_id = prompt.tokenizer.pad_token_id
        name_labels(settings, context.label_space)
        weights = loading.weights_as(config, device)
        dtype: torch.dtype = weights["dtype"]
        base = loading.load_language_model(context.base.path, settings, **weights)
        shares = enable_trees(base)
        model = LanguageModel(add_lora(base, config), shares)
        fuse(model)
        if not shares:
            context.say(
                "this architecture cannot share a prompt exactly; every answer runs as a sequence of its own (much slower, same results)"
            )
        if config.shard_base:
            released = shard_frozen(model)
            context.say(
                f"base shared by {context.processes.world} processes: {released / 1e6:,.0f} MB released on each"
            )
        listed = shortlist.size if shortlist else None
        longest = prompt.longest(listed) if nearest is None else nearest.longest(prompt, listed)
        check_positions(longest, settings)
        tolerance = config.score_tolerance
        if tolerance is None:
            tolerance = _TOLERANCE.get(dtype, min(_TOLERANCE.values()))
        scoring = Scoring(
            tolerance,
            config.length_normalization,
            config.prior_correction,
            0.0,
            prompt.max_labels,
        )
        budget = default_max_tokens(settings, dtype, device)
        return InstructScorer(
            model,
            prompt,
            len(context.label_space),
            scoring,
            budget,
            shortlist,
            context.processes,
            config.shard_base,
            nearest=nearest,
        )

    def _objective(
        self,
        config: RunConfig,
        space: LabelSpace,
        model: LanguageModel,
        trunks: Trunks,
        gold: np.ndarray[Any, Any],
    ) -> Objective:
        loss = make_loss(config, space.task, space.names, gold)
        if trunks.prompt.form == "each":
            return EachLoss(model, trunks, gold, loss, negatives=config.negatives, seed=config.seed)
        weights = torch.ones(len(gold))
        if space.task == "single" and loss.class_weight is not None:
            weights = loss.class_weight[torch.from_numpy(gold)]
        return ResponseLoss(
            model,
            trunks,
            gold_positions(gold),
            len(space),
            weights=weights,
            seed=config.seed,
            shuffle=config.shuffle_labels,
            listed=config.listed_labels,
        )

    def _tune_stop_bias(self, scorer: InstructScorer, dev: Trunks, context: FitContext) -> Scores:
        """Choose how reluctantly a list ends by the dev metric; the dev scores under it."""
        space, config, group = context.label_space, context.config, context.processes
        found = scorer.decodings(dev, context.view)
        gold = space.encode(context.dev)
        best: tuple[float, float, Scores] | None = None
        for number, bias in enumerate(listing.STOP_BIASES):
            scores = scorer.combined(dev, [None if values is None else values[number] for values in found])
            metric = dev_figures(scores, gold, space, config)["metric"]
            if best is None or metric > best[0] + 1e-9:
                best = (metric, bias, scores)
        assert best is not None
        scorer.scoring = replace(scorer.scoring, stop_bias=best[1])
        if group.main:
            context.say(
                f"a list ends where the end is {best[1]:g} nats likelier than the best label (chosen on dev)"
            )
        return best[2]

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> InstructScorer:
        """The scorer saved in ``folder``; refuses missing adapters, another base, and a changed prompt or tokenizer.

        Raises:
            ModelError: naming what does not fit.
        """
        try:
            prompt, scoring = saved_prompt(folder, meta, label_space), Scoring(**meta["scoring"])
            shortlist = None if meta["shortlist"] is None else Shortlist.load(folder)
            nearest = NearestShots.load(folder) if "nearest_shots" in meta else None
            weights = loading.weights_as_saved(meta, processes().device)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{folder}/sortal.json is damaged ({type(error).__name__}: {error})",
                "restore the file from its run",
            ) from None
        settings = loading.load_config(str(folder))
        check_labels(folder, settings, label_space)
        base = loading.load_language_model(check_base(folder, meta).path, settings, **weights)
        shares = enable_trees(base)
        model = LanguageModel(attach_adapter(base, folder), shares)
        fuse(model)
        freeze(model)
        budget = default_max_tokens(settings, weights["dtype"], weights["device"])
        return InstructScorer(
            model, prompt, len(label_space), scoring, budget, shortlist, frozen=True, nearest=nearest
        )


def saved_prompt(folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> Prompt:
    """The prompt in ``folder``, giving the tokens that the model was tuned on."""
    saved = meta["prompt"]
    verbalizer = Verbalizer(tuple(saved["answers"]), tuple(saved["listed"]))
    if not len(verbalizer.answers) == len(verbalizer.listed) == len(label_space):
        raise ModelError(
            f"{folder}/sortal.json: the prompt has wordings for {len(verbalizer.answers)} labels, not {len(label_space)}",
            "restore the file; it was edited",
        )
    prompt = Prompt(
        loading.load_tokenizer(str(folder)),
        PromptText.from_json(saved["text"]),
        saved["form"],
        verbalizer,
        meta["max_length"],
        meta["truncation"],
        tuple(Shot(text, tuple(labels)) for text, labels in saved["shots"]),
        meta["scoring"]["max_labels"],
        read_long_texts(folder, meta, ""),
        meta.get("nearest_shots", 0),
    )
    if prompt.hash != saved["hash"]:
        raise ModelError(
            f"{folder}: prompt and tokenizer do not give the tokens this model was tuned on",
            "restore sortal.json and the tokenizer files from one run; one of them was edited",
        )
    return prompt


def off_set_mass(scorer: InstructScorer, scores: Scores, say: Callable[[str], None]) -> dict[str, float]:
    """Mean probability that the model gives to answers outside the label set; empty where scores are no log-probabilities."""
    plain = not (scorer.scoring.length_normalization or scorer.scoring.prior_correction)
    plain &= scorer.prompt.long.windows == 1  # what several windows say together is no probability
    if scorer.prompt.form != "label" or not plain or scorer.shortlist is not None or len(scores) == 0:
        return {}
    mass = float(1 - np.exp(scores.astype(np.float64)).sum(1).mean())
    say(
        f"the model gives {100 * mass:.2f} % of its probability to answers outside the label set (mean over dev)"
    )
    return {"off_set_mass": mass}
