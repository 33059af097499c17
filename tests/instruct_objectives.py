"""Losses of method instruct on a few texts, their gradients in one step, and the same without a shared prompt."""

from __future__ import annotations

import numpy as np
import torch

from sortal.backbone import loading
from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.backbone.lora import add_lora, fuse, trainable
from sortal.config import build_config, resolve_sizes
from sortal.methods.instruct_rows import EachLoss, ResponseLoss, Trunks
from sortal.training.distributed import Processes
from sortal.training.loop import Loop
from sortal.training.losses import make_loss
from sortal.training.progress import NoProgress
from sortal.training.signals import StopRequest
from tiny_runs import stir

# Names with a common beginning, one the beginning of another, with spaces, of another script, and very short.
NAMES = ("good", "good enough", "goods", "Größe 好", "a", "other")
TEXTS = (
    "",
    "fine",
    "a <|end|> b",
    "rather longer, well past a window of a few tokens",
    "x" * 9,
    "文字 \U0001f600",
    "q",
    "why",
)
SINGLE = np.array([0, 1, 2, 3, 4, 5, 1, 0])
MULTI = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0],
    ],
    np.uint8,
)
CANDIDATES = np.array(
    [[0, 2, 5], [0, 1, 5], [1, 2, 4], [2, 3, 4], [3, 4, 5], [1, 4, 5], [0, 1, 5], [0, 1, 4]], np.int64
)
FORMS = ("label", "list", "each")


def stirred_model(base, *, fused=True):
    """A tiny decoder with LoRA, no part of which is a no-op; ``fused`` as Sortal trains it."""
    config = loading.load_config(str(base))
    causal = loading.load_language_model(str(base), config, dtype=torch.float32, device=torch.device("cpu"))
    shares = enable_trees(causal)
    assert shares
    torch.manual_seed(0)
    model = LanguageModel(add_lora(causal, build_config({})), shares)
    if fused:
        fuse(model)
    return stir(model)


def make_objective(model, prompt, *, candidates=None, seed=0, gold=None, weights=None, negatives=9, **more):
    """The loss of all texts in the form of the prompt; ``more`` goes to the config (each) or to the loss (label, list)."""
    trunks = Trunks(prompt, prompt.encode(TEXTS), candidates)
    if prompt.form == "each":
        gold = MULTI if gold is None else gold
        names = NAMES[: gold.shape[1]]
        loss = make_loss(build_config(more), "multi", names, gold)
        return EachLoss(model, trunks, gold, loss, negatives=negatives, seed=seed)
    labels = [(int(i),) for i in SINGLE]
    if prompt.form == "list":
        labels = [tuple(np.flatnonzero(row).tolist()) for row in MULTI]
    weights = torch.ones(len(TEXTS)) if weights is None else weights
    return ResponseLoss(model, trunks, labels, len(NAMES), weights=weights, seed=seed, **more)


def take_step(objective, max_tokens, order=None, step=0):
    """Loss and gradients of one optimiser step over all rows, as the loop accumulates them."""
    loop = Loop(
        objective.model,
        objective,
        dict,
        resolve_sizes(build_config({"batch_size": len(TEXTS)}), len(TEXTS)),
        processes=Processes(0, 1, torch.device("cpu")),
        max_tokens=max_tokens,
        store=None,
        stop=StopRequest(),
        view=NoProgress(),
        say=print,
    )
    loop.progress.step = step
    value = loop._accumulate(np.arange(len(TEXTS)) if order is None else np.array(order))
    return value, {name: p.grad.clone() for name, p in trainable(objective.model).items()}


class unshared:  # noqa: N801 - reads as a statement
    """Every path through a row as a sequence of its own, prompt included, under transformers' own attention."""

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.before = self.model.inner.config._attn_implementation
        self.model.inner.set_attn_implementation("eager")
        self.model.shares = False

    def __exit__(self, *error):
        self.model.inner.set_attn_implementation(self.before)
        self.model.shares = True


def assert_same(found, expected, tolerance=1e-5):
    """Both are a loss and gradients, as `take_step` gives them."""
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert gradient.norm() > 0, f"{name} has a gradient"
        error = (found[1][name] - gradient).norm()
        assert error <= tolerance * gradient.norm() + 1e-9, name


def row_losses(objective, step=0):
    """The loss of every text, in one microbatch: fp32 ``[texts]``."""
    everything = np.arange(len(TEXTS))
    objective.prepare(everything, step)
    with torch.no_grad():
        return objective.losses(everything)
