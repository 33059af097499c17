"""Random weights of a shape, made where they are used: no disk and no copy takes part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
)

_OF_CONFIG = ("num_labels", "problem_type", "pad_token_id")


@contextmanager
def made_on(device: str) -> Iterator[None]:
    """Inside, ``AutoModelForSequenceClassification.from_pretrained`` takes a folder's config and weights drawn on ``device``, the same every time.

    Everything behind it is the caller's own way of loading: data types, quantisation of one weight after the other, checks.
    """

    def load(base: str, *, config: Any = None, **named: Any) -> Any:
        if config is None:
            own = {key: named.pop(key) for key in _OF_CONFIG if key in named}
            config = AutoConfig.from_pretrained(base, **own)
        network = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
        named.setdefault("device_map", {"": 0 if device == "cuda" else device})
        weights = random_weights(network, config, device, named["dtype"])
        return network.from_pretrained(None, config=config, state_dict=weights, **named)

    with patch.object(AutoModelForSequenceClassification, "from_pretrained", load):
        yield


def random_weights(network: Any, config: Any, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All parameters but ``score``: ones for norms, otherwise normal."""
    with torch.device("meta"):
        empty = network(config)
    generator = torch.Generator(device).manual_seed(0)
    made: dict[str, torch.Tensor] = {}
    for name, parameter in empty.named_parameters():
        if name.startswith("score."):
            continue
        made[name] = torch.ones(parameter.shape, dtype=dtype, device=device)
        if parameter.dim() > 1:
            made[name].normal_(0, config.initializer_range, generator=generator)
    return made
