"""Ingredients that Sortal does not ship, so that they can be tried beside those it does.

A variant names one with the key ``candidate``. Inside `tried` the functions of Sortal that it changes are replaced; outside nothing is.
What a candidate learns beside the adapters is not saved with the model: the search judges the model that was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from sortal.backbone.encoding import EncodedTexts, TextEncoder
from sortal.backbone.lora import decoder_layers
from sortal.backbone.packing import Pack, microbatches
from sortal.backbone.pooling import pool, token_states
from sortal.backbone.windows import pack_texts
from sortal.methods import head_model
from sortal.methods.base import FitContext
from sortal.methods.layer_search import best_regression
from sortal.training.loop import make_optimizer
from sortal.training.objective import Classification, Ints

LORA_PLUS = 4.0  # learning rate of B over that of A
LATENTS = 32
EPISODE = 8  # labels of a step, and no more than half of them
R_DROP = 1.0  # weight of the divergence


@contextmanager
def tried(candidate: str | None) -> Iterator[None]:
    """Runs inside are trained with the candidate (None: as shipped)."""
    if candidate is None:
        yield
        return
    place, replacement = _PATCHES[candidate]()
    with patch(place, replacement):
        yield


class LayerMix(head_model.HeadModel):
    """`score` reads a learned average of what all layers say at the final token (arXiv 1802.05365), each brought to the last one's scale."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        layers = decoder_layers(self.decoder)
        self.mix = nn.Parameter(torch.zeros(len(layers), device=self.device))
        self._found: list[torch.Tensor] = []
        for layer in layers:
            layer.forward = self._kept(layer.forward)  # type: ignore[method-assign]

    def _kept(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*args: Any, **named: Any) -> Any:
            out = forward(*args, **named)
            self._found.append(out[0] if isinstance(out, tuple) else out)
            return out

        return kept

    def states(self, rows: Pack) -> torch.Tensor:
        """See `HeadModel.states`."""
        self._found.clear()
        super().states(rows)
        read = [self.decoder.norm(found[0].index_select(0, rows.last)).float() for found in self._found]
        self._found.clear()
        return torch.einsum("l,lnh->nh", self.mix.softmax(0), torch.stack(read))


class LatentPooling(head_model.HeadModel):
    """The tokens' mean, each after attention to a learned dictionary and an MLP (NV-Embed, arXiv 2405.17428), beginning as the mean itself."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        width, device = int(self.inner.config.hidden_size), self.device
        self.keys = nn.Parameter(torch.randn(LATENTS, width, device=device) / width**0.5)
        self.values = nn.Parameter(torch.randn(LATENTS, width, device=device) / width**0.5)
        self.up, self.down = nn.Linear(width, width, device=device), nn.Linear(width, width, device=device)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def states(self, rows: Pack) -> torch.Tensor:
        """See `HeadModel.states`."""
        tokens = token_states(self.decoder, rows).float()
        asked = nn.functional.layer_norm(tokens, tokens.shape[1:])
        found = (asked @ self.keys.T / tokens.shape[1] ** 0.5).softmax(-1) @ self.values
        return pool(tokens + self.down(nn.functional.gelu(self.up(found))), rows, "mean", self.skip)


def _built_as(kind: type[head_model.HeadModel]) -> tuple[str, Any]:
    tunable = head_model.tunable

    def built(classifier: Any, config: Any, pooling: Any = "last", skip: int = 0) -> head_model.HeadModel:
        plain = tunable(classifier, config, pooling, skip)
        return kind(plain.classifier, plain.packed, pooling, skip, config.aggregation)

    return "sortal.methods.head.tunable", built


def _lora_plus() -> tuple[str, Any]:
    """LoRA+ (arXiv 2402.12354): B learns faster than A."""

    def made(parameters: dict[str, nn.Parameter], config: Any) -> torch.optim.Optimizer:
        ups = {name: p for name, p in parameters.items() if ".lora_B." in name}
        optimizer = make_optimizer({n: p for n, p in parameters.items() if n not in ups}, config)
        optimizer.add_param_group(
            {"params": list(ups.values()), "lr": config.learning_rate * LORA_PLUS, "weight_decay": config.weight_decay}
        )  # fmt: skip
        return optimizer

    return "sortal.training.loop.make_optimizer", made


def _dora() -> tuple[str, Any]:
    """DoRA (arXiv 2402.09353): the magnitude of every weight column is learned by itself."""
    from sortal.backbone.adapters import LoraConfig

    return "sortal.backbone.adapters.LoraConfig", partial(LoraConfig, use_dora=True)


def _r_drop() -> tuple[str, Any]:
    """R-Drop (arXiv 2106.14448): two passes with different dropout, and their divergence in the loss."""
    once = Classification.losses

    def twice(self: Classification, rows: Any) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        hook = self.model.register_forward_hook(lambda model, inputs, logits: seen.append(logits))
        try:
            loss = 0.5 * (once(self, rows) + once(self, rows))
        finally:
            hook.remove()
        return loss + R_DROP * _divergence(*seen, single=self.targets.ndim == 1)

    return "sortal.training.objective.Classification.losses", twice


def _divergence(a: torch.Tensor, b: torch.Tensor, *, single: bool) -> torch.Tensor:
    """Symmetric Kullback-Leibler divergence of two predictions, ``[n]``; with several labels the mean over them."""
    if single:
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1)
    return 0.5 * ((a.sigmoid() - b.sigmoid()) * (a - b)).mean(-1)


def _two_stages() -> tuple[str, Any]:
    """Adapters begin where the plain run of another set ended: Banking77's, or for Banking77 GoEmotions'."""
    from safetensors.torch import load_file

    tunable = head_model.tunable

    def begun(classifier: Any, config: Any, pooling: Any = "last", skip: int = 0) -> head_model.HeadModel:
        model = tunable(classifier, config, pooling, skip)
        folder = Path(config.out).parent
        other = "goemotions" if folder.name == "banking77" else "banking77"
        run = folder.parent / other / f"plain-{config.seed}"
        weights = load_file(run / "model" / "adapter_model.safetensors")
        own_names = {name.replace(".default.", "."): p for name, p in model.classifier.named_parameters()}
        with torch.no_grad():
            for name, weight in weights.items():
                if ".lora_" in name:
                    own_names[name].copy_(weight)
        return model

    return "sortal.methods.head.tunable", begun


def _score_at_a_probe() -> tuple[str, Any]:
    """`score` begins as the logistic regression on the untuned states that dev likes best, as the probe fits it (LP-FT, arXiv 2202.10054)."""

    def begin(
        model: head_model.HeadModel,
        score: nn.Linear,
        encoder: TextEncoder,
        train: EncodedTexts,
        gold: Any,
        context: FitContext,
        max_tokens: int,
        units: Any = None,
    ) -> None:
        dev = encoder.encode(context.dev.iter_texts())
        x, x_dev = (read_states(model, texts, max_tokens) for texts in (train, dev))
        space = context.label_space
        golds = space.encode(context.train), space.encode(context.dev)
        found = best_regression(x, x_dev, golds, space, context.config).dense
        # `score` has no bias: what all states have in common stands in for the constant 1.
        square = x.T @ x
        ridge = 1e-4 * square.diagonal().mean() * torch.eye(len(square), device=x.device)
        one = torch.linalg.solve(square + ridge, x.sum(0))
        with torch.no_grad():
            score.weight.copy_(found.weight + torch.outer(found.bias, one))

    return "sortal.methods.head.begin_at_names", begin


def read_states(model: head_model.HeadModel, texts: EncodedTexts, max_tokens: int) -> torch.Tensor:
    """What ``score`` would read of every text, fp32 ``[n, hidden]``; texts of one window."""
    states = torch.empty(len(texts), model.trained_score.in_features, device=model.device)
    for part in microbatches(texts.lengths, max_tokens):
        with torch.inference_mode():
            states[part] = model.states(pack_texts(texts, np.asarray(part)).to(model.device))
    return states


class Episodes(Classification):
    """Every step is a small task of its own: a few labels, the same number of rows of each, and a loss that knows no other label."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        held = self.targets_of(np.arange(len(self.lengths))).numpy()
        if held.ndim == 1:
            held = held[:, None] == np.arange(held.max() + 1)
        self._rows = [np.flatnonzero(column) for column in held.T]
        self._known = np.flatnonzero(held.any(axis=0))
        self._drawn: dict[int, int] = {}
        self.open = torch.zeros(len(self._rows), dtype=torch.bool)

    def prepare(self, batch: Ints, step: int) -> None:
        """Draw the step's labels and, in the place of ``batch``, rows of them."""
        draw = np.random.default_rng([step, len(self._rows)])
        labels = draw.permutation(self._known)[: max(2, min(EPISODE, len(self._known) // 2))]
        rows = [draw.choice(self._rows[label]) for label in np.resize(labels, len(batch))]
        self._drawn = dict(zip(batch.tolist(), map(int, rows), strict=True))
        self.open = torch.zeros(len(self._rows), dtype=torch.bool)
        self.open[torch.from_numpy(labels)] = True

    def losses(self, rows: Ints) -> torch.Tensor:
        """See `Objective.losses`."""
        drawn = np.array([self._drawn[row] for row in rows.tolist()])
        logits = self.model(pack_texts(self.texts, drawn).to(self.device))
        targets, is_open = self.targets_of(drawn).to(self.device), self.open.to(self.device)
        if targets.ndim == 1:
            return self.loss(logits.masked_fill(~is_open, -torch.inf), targets)
        return self.loss(logits[:, is_open], targets[:, is_open])


_PATCHES: dict[str, Callable[[], tuple[str, Any]]] = {
    "layer mixing": partial(_built_as, LayerMix),
    "latent pooling": partial(_built_as, LatentPooling),
    "LoRA+": _lora_plus,
    "DoRA": _dora,
    "R-Drop": _r_drop,
    "two stages": _two_stages,
    "score at a probe": _score_at_a_probe,
    "episodes": lambda: ("sortal.methods.head.Classification", Episodes),
}
