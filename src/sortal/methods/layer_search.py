"""Which template, layer and pooling a frozen decoder says most with: a logistic regression on each, compared on dev."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from sortal.backbone import loading
from sortal.backbone.depth import POOLINGS, LayerReader
from sortal.backbone.encoding import EncodedTexts
from sortal.backbone.fingerprint import weights_fingerprint
from sortal.backbone.packing import microbatches, pack
from sortal.backbone.pooling import Pooling
from sortal.config import RunConfig
from sortal.data.labels import LabelSpace
from sortal.errors import ConfigError
from sortal.methods.base import FitContext
from sortal.methods.logistic import Dense, Standard, fit_logistic
from sortal.methods.probe_model import frozen_decoder
from sortal.methods.state_cache import CachedStates, StateCache, States, states_key
from sortal.methods.text_folder import make_encoder
from sortal.methods.tuning import dev_figures
from sortal.training.budget import default_max_tokens
from sortal.training.progress import ProgressView

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
DEV_ROWS = 2000  # more tell layers apart no better than other noise allows
_LARGEST = float(np.finfo(np.float16).max)
_COMMIT = 512  # texts that a killed search may lose


@dataclass(frozen=True)
class Place:
    """A template, a layer (1 is the first) and a pooling, with the C and the dev figures of the best regression there.

    metric: `metric_for_best_model`, larger is better.
    """

    template: str
    pooling: Pooling
    layer: int
    c: float
    metric: float
    figures: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """A flat JSON-ready dict."""
        values = asdict(self)
        return {**values.pop("figures"), **values}


@dataclass(frozen=True, eq=False)
class Regression:
    """A regression on features as they are, its C and dev figures; ``metric``: larger is better."""

    c: float
    metric: float
    figures: dict[str, float]
    dense: Dense


@dataclass(frozen=True)
class SearchRows:
    """The rows a search reads: positions among train and dev rows, ascending."""

    train: npt.NDArray[np.int64]
    dev: npt.NDArray[np.int64]

    @classmethod
    def draw(cls, train: int, dev: int, most: int, seed: int) -> SearchRows:
        """A seeded sample of at most ``most`` of ``train`` rows, and of `DEV_ROWS` dev rows."""
        rng = np.random.default_rng(seed)
        return cls(*(np.sort(rng.permutation(n)[:k]) for n, k in ((train, most), (dev, DEV_ROWS))))


def read_states(
    reader: LayerReader,
    texts: Sequence[npt.NDArray[np.int32]],
    cache: StateCache,
    max_tokens: int,
    view: ProgressView,
    *,
    causal: bool,
    what: str,
) -> CachedStates:
    """Pooled states of every layer for ``texts``, from the cache where they are known."""
    keys = [states_key(ids, reader.skip) for ids in texts]
    unknown = cache.missing(keys)
    cache.make_room(len(unknown))
    if lost := cache.missing(keys):  # making room may have cost known rows too
        unknown = lost
    view.start(what, len(unknown))
    for start in range(0, len(unknown), _COMMIT):
        chunk = unknown[start : start + _COMMIT]
        found: States = np.empty((len(chunk), *cache.shape), np.float16)
        for part in microbatches([len(texts[i]) for i in chunk], max_tokens):
            rows = pack([texts[chunk[i]].tolist() for i in part], causal=causal).to(reader.device)
            with torch.inference_mode():
                found[part] = reader(rows).clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
            view.advance(len(part), rows.tokens)
        cache.add([keys[i] for i in chunk], found)
    view.stop()
    return cache.read(keys)


def search_places(context: FitContext, templates: Sequence[str]) -> list[Place]:
    """The best regression for every template, layer and pooling, on a sample of the train and dev rows of ``context``.

    Raises:
        ConfigError: the model cannot do without its causal mask here.
    """
    config, say, device = context.config, context.say, context.processes.device
    path, trust = context.base.path, config.trust_remote_code
    space = context.label_space
    seed = config.seed if config.split_seed is None else config.split_seed
    chosen = SearchRows.draw(len(context.train), len(context.dev), config.probe_rows, seed)
    gold = space.encode(context.train)[chosen.train], space.encode(context.dev)[chosen.dev]
    settings = loading.load_config(path, trust_remote_code=trust)
    encoders = {
        name: make_encoder(path, with_template(config, name), context.train, space) for name in templates
    }
    how = loading.weights_as(config, device)
    base, packed = frozen_decoder(path, settings, next(iter(encoders.values())), how)
    if config.bidirectional and not packed:
        raise ConfigError(
            "bidirectional needs a model that runs packed rows, and this architecture does not",
            "leave it out, or choose another model",
        )
    depth = int(settings.num_hidden_layers)
    facts = {
        "base": context.base.revision or weights_fingerprint(path),
        "dtype": str(how["dtype"]).removeprefix("torch."),
        "quantization": config.quantization,
        "bidirectional": config.bidirectional,
    }
    poolings = POOLINGS if config.pooling == "auto" else (cast(Pooling, config.pooling),)
    say(
        f"{len(chosen.train):,} train and {len(chosen.dev):,} dev rows, {depth} layers, {' and '.join(poolings)}, "
        f"{' and '.join(map(repr, templates))}: compared on dev {config.metric_for_best_model}"
    )
    found: list[Place] = []
    budget = config.max_tokens or default_max_tokens(settings, how["dtype"], device)
    with StateCache(facts, (len(POOLINGS), depth, int(settings.hidden_size))) as cache:
        for name, encoder in encoders.items():
            reader = LayerReader(base, packed, int(settings.pad_token_id), len(encoder.template.prefix))
            train, dev = (
                encoder.encode(data.text_at(rows))
                for rows, data in ((chosen.train, context.train), (chosen.dev, context.dev))
            )
            states = read_states(
                reader,
                [*train.unrolled, *dev.unrolled],
                cache,
                budget,
                context.view,
                causal=not config.bidirectional,
                what=f"{name!r} states",
            )
            halves = states.split(len(train.unrolled))
            places = _compare(name, halves, (train, dev), gold, poolings, context)
            say(_summary(places))
            found += places
    return found


def best_place(places: Sequence[Place]) -> Place:
    """The one with the highest metric; of equals the shallowest."""
    return max(places, key=lambda place: (place.metric, -place.layer))


def with_template(config: RunConfig, template: str) -> RunConfig:
    """``config`` with one template."""
    return config.model_copy(update={"template": template})


def _compare(
    template: str,
    states: tuple[CachedStates, CachedStates],
    texts: tuple[EncodedTexts, EncodedTexts],
    gold: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    poolings: Sequence[Pooling],
    context: FitContext,
) -> list[Place]:
    depth = states[0].shape[1]
    view, device = context.view, context.processes.device
    places = []
    view.start(f"{template!r} layers", depth * len(poolings))
    for layer, pooling in product(range(depth), poolings):
        at = POOLINGS.index(pooling), layer
        x, x_dev = (
            torch.from_numpy(_of_texts(part[at], encoded)).to(device)
            for part, encoded in zip(states, texts, strict=True)
        )
        best = best_regression(x, x_dev, gold, context.label_space, context.config)
        places.append(Place(template, pooling, layer + 1, best.c, best.metric, best.figures))
        view.advance(1, 0)
    view.stop()
    return places


def _of_texts(states: npt.NDArray[np.float32], texts: EncodedTexts) -> npt.NDArray[np.float32]:
    """The mean over every text's windows, whose score is the mean of theirs."""
    if texts.firsts is None:
        return states
    sums = np.add.reduceat(states, texts.firsts[:-1])
    return (sums / np.diff(texts.firsts)[:, None]).astype(np.float32)


def _summary(places: Sequence[Place]) -> str:
    best = (
        best_place([place for place in places if place.pooling == pooling])
        for pooling in dict.fromkeys(place.pooling for place in places)
    )
    parts = (f"{place.pooling} {place.metric:.4f} at layer {place.layer}" for place in best)
    return f"{places[0].template!r} template: {', '.join(parts)}"


def best_regression(
    x: torch.Tensor,
    x_dev: torch.Tensor,
    gold: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    space: LabelSpace,
    config: RunConfig,
) -> Regression:
    """The one of `STRENGTHS` that dev likes best, fitted on ``x``, fp32 ``[n, d]``.

    Args:
        gold: of the rows of ``x`` and of ``x_dev``.
    """
    standard = Standard.of(x)
    x, x_dev = standard.apply(x), standard.apply(x_dev)
    best: Regression | None = None
    for c, dense in zip(STRENGTHS, fit_logistic(x, gold[0], len(space), STRENGTHS), strict=True):
        figures = dev_figures(dense.score(x_dev).cpu().numpy(), gold[1], space, config)
        metric = figures.pop("metric")
        if best is not None and metric < best.metric:
            break  # weaker regularisation takes longest, and will not help any more
        if best is None or metric > best.metric:
            best = Regression(c, metric, figures, dense)
    assert best is not None
    return replace(best, dense=standard.unfold(best.dense))
