"""Method ``encoder``: a BERT-type encoder with a classification head, fine-tuned whole (arXiv 1810.04805) or by LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

from sortal.backbone import encoders, loading
from sortal.backbone.encoding import TextEncoder
from sortal.backbone.quiet import quiet
from sortal.backbone.template import install, own_template
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, ModelError
from sortal.hierarchy.units import saved_units, unit_plan
from sortal.methods.adapter_folder import adapter_shapes, check_labels, name_labels
from sortal.methods.base import FitContext, Fitted, PreviewContext
from sortal.methods.base_kind import check_kind
from sortal.methods.encoder_model import EncoderModel
from sortal.methods.head import PROBLEM_TYPE
from sortal.methods.pack_scorer import PackScorer
from sortal.methods.preview import TokenPreview
from sortal.methods.preview_texts import preview_texts
from sortal.methods.score_init import begin_at_names, check_wordings
from sortal.methods.step_budget import budget_steps
from sortal.methods.text_folder import MAX_LENGTH, load_texts, long_texts, longer, save_texts
from sortal.methods.tuning import fine_tune, lengths_line, parameters_line, text_figures, training_loss
from sortal.training.budget import default_max_tokens
from sortal.training.distributed import processes
from sortal.training.objective import Classification

SCORE_FILE = "score.safetensors"
_POOLING = {"own": "the head of its own family", "mean": "a linear layer on the mean of the tokens' states"}


@dataclass
class EncoderScorer(PackScorer[EncoderModel]):
    """A tuned encoder with its text encoder."""

    def save(self, folder: Path) -> dict[str, Any]:
        """A plain transformers model with its tokenizer; the linear layer on the mean, which transformers has no place for, in a file of its own."""
        model = self.model
        with quiet():
            model.whole.save_pretrained(folder)
        if not model.own:
            tensors = {name: t.detach().cpu().contiguous() for name, t in model.score.state_dict().items()}
            save_file(tensors, folder / SCORE_FILE, metadata={"format": "pt"})
        pooling = "own" if model.own else "mean"
        dtype = str(model.dtype).removeprefix("torch.")
        model.windows.save(folder)
        return {**save_texts(self.encoder, folder), "pooling": pooling, "dtype": dtype}


class EncoderMethod:
    """Fitting and loading of ``encoder``."""

    has_base: ClassVar[bool] = True
    in_steps: ClassVar[bool] = True

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse wordings and loss settings that do not fit the labels."""
        check_wordings(config, label_space)
        units = unit_plan(label_space, config.hierarchy, config.level_weights)
        training_loss(config, label_space, label_space.encode_sparse(train), units)

    def preview(self, asked: PreviewContext) -> TokenPreview:
        """Encoded texts; the state of the first token or of all tokens is classified."""
        config, train, rows = asked.config, asked.train, asked.rows
        base = asked.base
        check_kind(base, "encoder", "encoder")
        encoder = make_encoder(base.path, config, train)
        pooling = encoders.choose_pooling(config.pooling, Path(base.path))
        texts = encoder.encode(train.iter_texts())

        def about(ids: list[int]) -> tuple[list[int], str]:
            read = list(range(len(ids))) if pooling == "mean" else [0]
            return read, f"each sees all; classified by {_POOLING[pooling]}"

        return preview_texts(encoder, texts, train.text_at(range(min(rows, len(texts)))), about)

    def fit(self, context: FitContext) -> Fitted:
        """Train on ``context.train``; ``context.dev`` has a say in which epoch is kept."""
        config, space, say = context.config, context.label_space, context.say
        check_kind(context.base, "encoder", "encoder")
        torch.manual_seed(config.seed)
        encoder = make_encoder(context.base.path, config, context.train)
        train, dev = encoder.encode(context.train.iter_texts()), encoder.encode(context.dev.iter_texts())
        say(lengths_line(train, encoder))
        scorer = self._network(context, encoder)
        pooling = "own" if scorer.model.own else "mean"
        say(f"{parameters_line(scorer.model)}, {_POOLING[pooling]}")
        gold = space.encode_sparse(context.train)
        if config.score_init == "labels" and isinstance(scorer.model.score, nn.Linear):
            begin_at_names(
                scorer.model,
                scorer.model.score,
                encoder,
                train,
                gold,
                context,
                scorer.max_tokens,
                scorer.units,
            )
        loss = training_loss(config, space, gold, scorer.units)
        objective = Classification(scorer.model, train, gold, loss, context.processes.device)
        tuned = fine_tune(
            context,
            scorer.model,
            objective,
            lambda view: scorer.score_encoded(dev, view),
            budget_steps(context, scorer.model, objective),
        )
        # Merged weights round differently: what decides about thresholds must be what is saved.
        merged = scorer.model.merge()
        return Fitted(
            scorer,
            scorer.score_encoded(dev, context.view) if merged else tuned.dev_scores,
            {
                "pooling": pooling,
                "tuning": config.tuning,
                "dtype": str(scorer.model.dtype).removeprefix("torch."),
                **text_figures(train, encoder),
                "train_tokens_per_epoch": train.tokens,
                **tuned.figures,
            },
            loss.shifts_probabilities,
        )

    def _network(self, context: FitContext, encoder: TextEncoder) -> EncoderScorer:
        config, space, device = context.config, context.label_space, context.processes.device
        path, trust = context.base.path, config.trust_remote_code
        settings = loading.load_config(path, trust_remote_code=trust)
        units = unit_plan(space, config.hierarchy, config.level_weights)
        name_labels(settings, units or space)
        settings.problem_type = PROBLEM_TYPE[space.task]
        if settings.pad_token_id is None:  # where there is one, RoBERTa counts its positions from it
            settings.pad_token_id = encoder.tokenizer.pad_token_id
        encoders.set_dropout(settings, config.encoder_dropout)
        own = encoders.choose_pooling(config.pooling, Path(path)) == "own"
        if own and config.aggregation == "attention":
            raise ConfigError(
                "aggregation 'attention' weighs states, and the head of this encoder's own family keeps its own inside",
                "use pooling mean, or aggregation mean or max",
            )
        whole = encoders.load_body(path, settings, trust_remote_code=trust)
        if own:
            whole = encoders.with_own_head(whole, settings, trust_remote_code=trust)
        dtype = loading.choose_dtype(config.dtype, device)
        model = EncoderModel(
            whole,
            len((units or space).names),
            settings.pad_token_id,
            own=own,
            dtype=dtype,
            aggregation=config.aggregation,
        ).to(device)
        model.tune(config)
        budget = default_max_tokens(settings, dtype, device)
        return EncoderScorer(model, encoder, budget, context.processes, units=units)

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> EncoderScorer:
        """The scorer saved in ``folder``, which needs no base model; refuses missing and stray tensors and changed templates.

        Raises:
            ModelError: naming what does not fit.
        """
        encoder = load_texts(folder, meta)
        settings = loading.load_config(str(folder))
        units = saved_units(meta, label_space)
        check_labels(folder, settings, units or label_space)
        device, own = processes().device, meta["pooling"] == "own"
        auto = AutoModelForSequenceClassification if own else AutoModel
        whole = encoders.load_tuned(auto, folder, settings)
        dtype = getattr(torch, meta["dtype"])
        model = EncoderModel(
            whole,
            len((units or label_space).names),
            settings.pad_token_id,
            own=own,
            dtype=dtype,
            aggregation=encoder.long.aggregation,
        )
        if not own:
            _load_score(model.score, folder / SCORE_FILE)
        model.windows.load(folder)
        model.requires_grad_(False).to(device)
        return EncoderScorer(model, encoder, default_max_tokens(settings, dtype, device), units=units)


def make_encoder(path: str, config: RunConfig, train: Dataset | None = None) -> TextEncoder:
    """The tokenizer of an encoder, with the special tokens it puts around a text and the limits written into it.

    Args:
        train: texts that say how much is read where ``config`` does not.

    Raises:
        ConfigError: more tokens are asked for than the encoder has positions.
    """
    tokenizer = loading.load_tokenizer(path, trust_remote_code=config.trust_remote_code)
    settings = loading.load_config(path, trust_remote_code=config.trust_remote_code)
    longest = encoders.longest_text(settings, settings.pad_token_id)
    length = encoders.check_length(config.max_length, longest, MAX_LENGTH)
    template = own_template(tokenizer)
    encoder = TextEncoder(tokenizer, template, length, config.truncation, long=long_texts(config))
    if config.max_length is None:
        encoder = longer(encoder, train, longest)
    install(template, tokenizer, encoder.max_length, config.truncation)
    return encoder


def _load_score(score: nn.Module, path: Path) -> None:
    """Read the linear layer of pooling ``mean``."""
    expected = {name: tuple(tensor.shape) for name, tensor in score.state_dict().items()}
    found = adapter_shapes(path)
    if found != expected:
        raise ModelError(
            f"{path} holds {found}, expected {expected}", "the file belongs to another label set or encoder"
        )
    score.load_state_dict(load_file(path))
