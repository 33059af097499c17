"""Method ``probe``: a logistic regression on the states of a frozen causal LM, at the layer that dev prefers.

Linear probes of every layer: Alain & Bengio (arXiv 1610.01644). The middle layers of a small decoder often say more about a
text than its last one, which has the next token to think of.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sortal.backbone import loading
from sortal.backbone.depth import cut_layers
from sortal.backbone.encoding import TextEncoder
from sortal.backbone.pooling import Pooling
from sortal.config import RunConfig
from sortal.data.dataset import Dataset
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError, ModelError
from sortal.methods.adapter_folder import adapter_shapes, check_base, check_labels, name_labels
from sortal.methods.base import FitContext, Fitted, PreviewContext
from sortal.methods.base_kind import check_kind
from sortal.methods.layer_search import best_place, best_regression, search_places, with_template
from sortal.methods.logistic import Dense
from sortal.methods.pack_scorer import PackScorer
from sortal.methods.preview import TokenPreview
from sortal.methods.preview_texts import preview_texts
from sortal.methods.probe_model import ProbeModel, frozen_decoder
from sortal.methods.text_folder import load_texts, make_encoder, save_texts
from sortal.methods.tuning import lengths_line, text_figures
from sortal.training.budget import default_max_tokens, peak_memory
from sortal.training.distributed import processes

WEIGHTS = "probe.safetensors"


@dataclass
class ProbeScorer(PackScorer[ProbeModel]):
    """A cut decoder with a linear layer on its states, and its text encoder."""

    def save(self, folder: Path) -> dict[str, Any]:
        """``probe.safetensors``, the cut model's config and the tokenizer files; the base model is named, not copied."""
        score = self.model.score
        assert score is not None
        tensors = {name: t.detach().cpu().contiguous() for name, t in score.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        self.model.base.config.save_pretrained(folder)
        return {
            **save_texts(self.encoder, folder),
            "layers": int(self.model.base.config.num_hidden_layers),
            "pooling": self.model.pooling,
            "bidirectional": not self.causal,
            "dtype": str(self.model.base.dtype).removeprefix("torch."),
        }


class ProbeMethod:
    """Fitting and loading of ``probe``."""

    has_base: ClassVar[bool] = True
    in_steps: ClassVar[bool] = False

    def check(self, config: RunConfig, train: Dataset, label_space: LabelSpace) -> None:
        """Nothing can fail."""

    def preview(self, asked: PreviewContext) -> TokenPreview:
        """Encoded texts in the first template."""
        config, train, rows = asked.config, asked.train, asked.rows
        base = asked.base
        check_kind(base, "decoder", "probe")
        encoder = make_encoder(base.path, with_template(config, config.template_sources[0]), train)
        texts = encoder.encode(train.iter_texts())

        def about(ids: list[int]) -> tuple[list[int], str]:
            last = len(ids) - 1
            return [last], (
                f"all attended; the states of all layers are compared, of token {last} and in the mean"
            )

        return preview_texts(encoder, texts, train.text_at(range(min(rows, len(texts)))), about)

    def fit(self, context: FitContext) -> Fitted:
        """Choose template, layer, pooling and C by ``context.dev``; fit on all of ``context.train``."""
        config, say = context.config, context.say
        check_kind(context.base, "decoder", "probe")
        if context.processes.world > 1:
            raise ConfigError("method probe runs in one process", "start it without torchrun")
        began = time.monotonic()
        places = search_places(context, config.template_sources)
        place = best_place(places)
        say(f"best on dev: layer {place.layer}, {place.pooling}, {place.template!r} template")

        chosen = with_template(config, place.template)
        encoder = make_encoder(context.base.path, chosen, context.train)
        train, dev = encoder.encode(context.train.iter_texts()), encoder.encode(context.dev.iter_texts())
        say(lengths_line(train, encoder))
        scorer = _scorer(context, chosen, encoder, place.layer, place.pooling)
        x = torch.from_numpy(scorer.score_encoded(train, context.view)).to(scorer.model.device)
        x_dev = torch.from_numpy(scorer.score_encoded(dev, context.view)).to(scorer.model.device)
        gold = context.label_space.encode(context.train), context.label_space.encode(context.dev)
        best = best_regression(x, x_dev, gold, context.label_space, config)
        scorer.model.score = _linear(best.dense)
        return Fitted(
            scorer,
            best.dense.score(x_dev).cpu().numpy(),
            {
                "template": place.template,
                "layer": place.layer,
                "pooling": place.pooling,
                "c": best.c,
                "dtype": str(scorer.model.base.dtype).removeprefix("torch."),
                "layers": [each.to_json() for each in places],
                **text_figures(train, encoder),
                "trainable_parameters": best.dense.weight.numel() + best.dense.bias.numel(),
                "train_seconds": round(time.monotonic() - began, 3),
                "peak_memory_bytes": peak_memory(context.processes.device),
            },
        )

    def load(self, folder: Path, meta: dict[str, Any], label_space: LabelSpace) -> ProbeScorer:
        """The scorer saved in ``folder``; refuses missing weights, another base model and changed templates.

        Raises:
            ModelError: naming what does not fit.
        """
        encoder = load_texts(folder, meta)
        settings = loading.load_config(str(folder))
        check_labels(folder, settings, label_space)
        if settings.num_hidden_layers != meta["layers"]:
            raise ModelError(
                f"{folder}: config.json has {settings.num_hidden_layers} layers, sortal.json {meta['layers']}",
                "restore both files from one run",
            )
        weight = _load_weights(folder / WEIGHTS, len(label_space), settings.hidden_size)
        how = loading.weights_as_saved(meta, processes().device)
        model = _network(check_base(folder, meta).path, settings, encoder, meta["pooling"], how)
        model.score = _linear(Dense(*(tensor.to(model.device) for tensor in weight)))
        budget = default_max_tokens(settings, how["dtype"], how["device"])
        return ProbeScorer(model, encoder, budget, causal=not meta["bidirectional"])


def _scorer(
    context: FitContext, config: RunConfig, encoder: TextEncoder, layers: int, pooling: Pooling
) -> ProbeScorer:
    """The cut model, whose output are the pooled states as long as it has no ``score``."""
    how = loading.weights_as(config, context.processes.device)
    settings = loading.load_config(context.base.path, trust_remote_code=config.trust_remote_code)
    cut_layers(settings, layers)
    name_labels(settings, context.label_space)
    model = _network(context.base.path, settings, encoder, pooling, how)
    budget = config.max_tokens or default_max_tokens(settings, how["dtype"], how["device"])
    return ProbeScorer(model, encoder, budget, causal=not config.bidirectional)


def _network(
    path: str, settings: Any, encoder: TextEncoder, pooling: Pooling, how: dict[str, Any]
) -> ProbeModel:
    base, packed = frozen_decoder(path, settings, encoder, how)
    return ProbeModel(base, packed, settings.pad_token_id, pooling, len(encoder.template.prefix))


def _linear(dense: Dense) -> nn.Linear:
    labels, hidden = dense.weight.shape
    linear = nn.Linear(hidden, labels, device=dense.weight.device, dtype=torch.float32)
    linear.load_state_dict({"weight": dense.weight, "bias": dense.bias})
    return linear.requires_grad_(False)


def _load_weights(path: Path, labels: int, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    expected = {"bias": (labels,), "weight": (labels, hidden)}
    if (found := adapter_shapes(path)) != expected:
        raise ModelError(
            f"{path} holds {found}, expected {expected}",
            "the file belongs to another label set or base model",
        )
    tensors = load_file(path)
    return tensors["weight"], tensors["bias"]
