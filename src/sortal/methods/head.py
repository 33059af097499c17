"""Method ``head``: embedding-based classification (arXiv 2512.12677) with a causal LM, LoRA and a linear score."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from sortal.backbone import loading
from sortal.backbone.answering import freeze, settle
from sortal.backbone.depth import cut_layers
from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.fingerprint import weights_fingerprint
from sortal.backbone.lora import fuse, top_layers
from sortal.backbone.packing import Pack, Prefix
from sortal.backbone.prefix import can_share, read_prefix
from sortal.backbone.sharding import shard_frozen
from sortal.backbone.trees import TreePack
from sortal.backbone.trunk import Trunk, TrunkTexts
from sortal.backbone.windows import pack_texts
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ModelError
from sortal.hierarchy.units import saved_units, unit_plan
from sortal.methods.adapter_folder import (
    adapter_shapes,
    attach_adapter,
    check_base,
    check_labels,
    name_labels,
)
from sortal.methods.base import FitContext, Fitted, PreviewContext
from sortal.methods.base_kind import check_kind
from sortal.methods.head_depth import Depth, choose_depth
from sortal.methods.head_model import HeadModel, tunable
from sortal.methods.pack_scorer import PackScorer
from sortal.methods.preview import Preview
from sortal.methods.preview_texts import preview_texts
from sortal.methods.score_init import begin_at_names, check_wordings
from sortal.methods.state_folders import LIMIT, most_bytes
from sortal.methods.step_budget import budget_steps
from sortal.methods.text_folder import load_texts, make_encoder, save_texts, sharing
from sortal.methods.trunk_cache import state_bytes, with_trunk
from sortal.methods.tuning import fine_tune, lengths_line, parameters_line, text_figures, training_loss
from sortal.training.budget import default_max_tokens
from sortal.training.distributed import processes
from sortal.training.objective import Classification

PROBLEM_TYPE = {"single": "single_label_classification", "multi": "multi_label_classification"}


@dataclass
class HeadScorer(PackScorer[HeadModel]):
    """A tuned decoder with its text encoder."""

    _prefix: Prefix | None = field(default=None, init=False, repr=False)

    def settle(self) -> None:
        """Learn no more (`sortal.backbone.answering`); what all texts begin with is then read once and not with each of them."""
        model, template = self.model, self.encoder.template
        settle(model)
        if model.packed and template.suffix:  # without one, nothing may stand behind the beginning
            self._prefix = read_prefix(model.decoder, template.prefix)

    def _pack(self, texts: EncodedTexts, rows: np.ndarray[Any, Any]) -> Pack | TreePack:
        return pack_texts(texts, rows, prefix=self._prefix)

    def save(self, folder: Path) -> dict[str, Any]:
        """Adapter, config and tokenizer files in the layout of peft and transformers."""
        self.model.classifier.save_pretrained(folder)
        for stray in ("README.md",):  # peft writes a card of its own
            (folder / stray).unlink(missing_ok=True)
        config = self.model.inner.config
        config.save_pretrained(folder)
        dtype = str(self.model.inner.dtype).removeprefix("torch.")
        self.model.windows.save(folder)
        return {**save_texts(self.encoder, folder), "pooling": self.model.pooling, "dtype": dtype}


class HeadMethod:
    """Fitting and loading of ``head``."""

    has_base: ClassVar[bool] = True
    in_steps: ClassVar[bool] = True

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Refuse wordings and loss settings that do not fit the labels."""
        check_wordings(config, label_space)
        units = unit_plan(label_space, config.hierarchy, config.level_weights)
        training_loss(config, label_space, label_space.encode_sparse(train), units)

    def preview(self, asked: PreviewContext) -> Preview:
        """Encoded texts; the state of the last token is classified."""
        config, train, rows = asked.config, asked.train, asked.rows
        base = asked.base
        check_kind(base, "decoder", "head")
        encoder = sharing(make_encoder(base.path, config, train, asked.label_space))
        texts = encoder.encode(train.iter_texts())

        def about(ids: list[int]) -> tuple[list[int], str]:
            last = encoder.tokenizer.decode(ids[-1:])
            return [len(ids) - 1], f"all attended; the state of token {len(ids) - 1} {last!r} is classified"

        return preview_texts(encoder, texts, train.text_at(range(min(rows, len(texts)))), about)

    def fit(self, context: FitContext) -> Fitted:
        """Train adapters and score on ``context.train``; ``context.dev`` has a say in which epoch is kept."""
        config, space, say = context.config, context.label_space, context.say
        check_kind(context.base, "decoder", "head")
        encoder = sharing(make_encoder(context.base.path, config, context.train, space))
        train, dev = encoder.encode(context.train.iter_texts()), encoder.encode(context.dev.iter_texts())
        say(lengths_line(train, encoder))
        depth = choose_depth(context)
        if depth.pooling != "last":
            say(
                f"pooling {depth.pooling!r} is Sortal's own: plain transformers reads the final token and gives other scores"
            )
        torch.manual_seed(config.seed)  # whatever a search drew
        scorer = self._network(context, encoder, depth)
        if encoder.shared and not scorer.encoder.shared:
            say(
                "this architecture cannot share the beginning of texts exactly; each is read with its own (slower, same results)"
            )
            encoder = scorer.encoder
            train, dev = scorer.encode(context.train.iter_texts()), scorer.encode(context.dev.iter_texts())
        whole_dev = dev
        say(f"{parameters_line(scorer.model)}, {scorer.encoder.template.source!r} template")
        began = time.monotonic()
        train, dev = self._below(context, scorer, train, dev)
        below = round(time.monotonic() - began, 3) if isinstance(train, TrunkTexts) else 0.0
        gold = space.encode_sparse(context.train)
        if config.score_init == "labels":
            begin_at_names(
                scorer.model,
                scorer.model.trained_score,
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
        scorer.model.trunk = None
        scorer.settle()  # merged weights round differently: thresholds are for what is loaded
        return Fitted(
            scorer,
            scorer.score_encoded(whole_dev, context.view),
            {
                "packed": scorer.model.packed,
                "cached_trunk": isinstance(train, TrunkTexts),
                "template": encoder.template.source,
                "layer": int(scorer.model.inner.config.num_hidden_layers),
                "pooling": depth.pooling,
                **({"layers": depth.search} if depth.search else {}),
                "dtype": str(scorer.model.inner.dtype).removeprefix("torch."),
                **text_figures(train, encoder),
                "train_tokens_per_epoch": train.tokens,
                **tuned.figures,
                # What every epoch is spared was paid for once.
                "train_seconds": round(tuned.figures["train_seconds"] + below, 3),
                **({"trunk_seconds": below} if below else {}),
            },
            loss.shifts_probabilities,
        )

    def _below(
        self, context: FitContext, scorer: HeadScorer, train: EncodedTexts, dev: EncodedTexts
    ) -> tuple[EncodedTexts, EncodedTexts]:
        """Train and dev texts with the states below the tuned layers, where such layers are and that is exact."""
        config, model, base = context.config, scorer.model, context.base
        depth = int(model.inner.config.num_hidden_layers)
        first = depth - top_layers(config, depth)
        alone = context.processes.world == 1 and not config.shard_base and config.windows == 1
        if not (first and config.cache_trunk == "auto" and model.packed and alone):
            return train, dev
        if train.beginning:
            context.say(
                "texts share what the template puts before them: the states below the tuned layers are computed in every epoch"
            )
            return train, dev
        trunk = Trunk(getattr(model.inner, model.inner.base_model_prefix), first)
        if not trunk.exact():
            context.say("the states below the tuned layers of this architecture are computed in every epoch")
            return train, dev
        needed = state_bytes(train.tokens + dev.tokens, model.inner.config.hidden_size, model.inner.dtype)
        if needed > most_bytes():
            context.say(
                f"the states below the tuned layers would take {needed / 1e9:.1f} GB, more than {LIMIT} allows: they are computed in every epoch"
            )
            return train, dev
        facts = {
            "base": base.revision or weights_fingerprint(base.path),
            "quantization": config.quantization,
            "nf4_backend": config.nf4_backend,
        }
        model.trunk, budget = trunk, scorer.max_tokens
        return (
            with_trunk(train, trunk, facts, budget, context.view, "reading train below the tuned layers"),
            with_trunk(dev, trunk, facts, budget, context.view, "reading dev below the tuned layers"),
        )

    def _network(self, context: FitContext, encoder: TextEncoder, depth: Depth) -> HeadScorer:
        config, space, device = context.config, context.label_space, context.processes.device
        settings = loading.load_config(context.base.path, trust_remote_code=config.trust_remote_code)
        if depth.layers is not None:
            cut_layers(settings, depth.layers)
        units = unit_plan(space, config.hierarchy, config.level_weights)
        name_labels(settings, units or space)
        settings.problem_type = PROBLEM_TYPE[space.task]
        settings.pad_token_id = encoder.tokenizer.pad_token_id
        settings.use_cache = False
        weights = loading.weights_as(config, device)
        classifier = loading.load_classifier(context.base.path, settings, **weights)
        model = tunable(classifier, config, depth.pooling, len(encoder.template.prefix))
        if not model.packed:
            context.say(
                "this architecture cannot run packed rows exactly; using padded rows (slower, same results)"
            )
        if config.shard_base:
            released = shard_frozen(model)
            context.say(
                f"base shared by {context.processes.world} processes: {released / 1e6:,.0f} MB released on each"
            )
        budget = default_max_tokens(settings, weights["dtype"], device)
        encoder = _below_its_beginning(encoder, model)
        return HeadScorer(model, encoder, budget, context.processes, config.shard_base, units=units)

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> HeadScorer:
        """The scorer saved in ``folder``; refuses a missing ``score``, missing adapters and changed templates.

        Raises:
            ModelError: naming what does not fit.
        """
        encoder = load_texts(folder, meta)
        settings = loading.load_config(str(folder))
        units = saved_units(meta, label_space)
        check_labels(folder, settings, units or label_space)
        _check_adapter(folder, len((units or label_space).names), settings.hidden_size)
        weights = loading.weights_as_saved(meta, processes().device)
        classifier = loading.load_classifier(check_base(folder, meta).path, settings, **weights)
        packed = loading.enable_packing(classifier)
        model = attach_adapter(classifier, folder)
        fuse(model)
        freeze(model)
        pooling, skip = meta.get("pooling", "last"), len(encoder.template.prefix)
        head = HeadModel(model, packed, pooling, skip, encoder.long.aggregation)
        head.windows.requires_grad_(False).load(folder)
        budget = default_max_tokens(settings, weights["dtype"], weights["device"])
        encoder = _below_its_beginning(sharing(encoder), head)
        scorer = HeadScorer(head, encoder, budget, units=units)
        scorer.settle()
        return scorer


def _below_its_beginning(encoder: TextEncoder, model: HeadModel) -> TextEncoder:
    """``encoder``, without a shared beginning where ``model`` cannot have one."""
    return replace(encoder, shared=encoder.shared and model.packed and can_share(model.decoder))


def _check_adapter(folder: Path, labels: int, hidden: int) -> None:
    """Refuse, before the base model is loaded, a folder whose ``score`` is missing or of another shape (S3)."""
    path = folder / "adapter_model.safetensors"
    shapes = adapter_shapes(path)
    score = [shape for key, shape in shapes.items() if key.endswith(".score.weight")]
    if not score:
        raise ModelError(
            f"{path} holds no weights of the score head",
            "a classifier without its head cannot be used; train again",
        )
    if score[0] != (labels, hidden):
        raise ModelError(
            f"{path}: score is {score[0]}, expected ({labels}, {hidden})",
            "the adapter belongs to another label set or base model",
        )
