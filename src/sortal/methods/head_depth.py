"""How deep a head's decoder is and how it is read: as the user says, or as a probe of the frozen layers finds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from sortal.backbone.pooling import Pooling
from sortal.errors import CheckpointError, ConfigError
from sortal.methods.base import FitContext
from sortal.methods.layer_search import best_place, search_places
from sortal.training.atomic import write_json

_CHOICE = "layers.json"


@dataclass(frozen=True)
class Depth:
    """Layers kept (None: all), pooling, and the search that chose them (empty without one)."""

    layers: int | None
    pooling: Pooling
    search: list[dict[str, Any]]


def choose_depth(context: FitContext) -> Depth:
    """From the settings; ``keep_layers: auto`` searches once per run, so that a resumed run goes on with the same model.

    Raises:
        ConfigError: a search with several processes.
    """
    config = context.config
    given = cast(Pooling, "last" if config.pooling == "auto" else config.pooling)
    if config.keep_layers != "auto":
        return Depth(config.keep_layers, given, [])
    path = None if context.store is None else context.store.folder / _CHOICE
    if context.resume and path is not None and path.exists():
        try:
            return Depth(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error})", "start again in another folder") from None
    if context.processes.world > 1:
        raise ConfigError(
            "keep_layers auto runs in one process",
            "find the number in one process, then give it: keep_layers=12",
        )
    places = search_places(context, config.template_sources)
    place = best_place(places)
    context.say(
        f"keeping {place.layer} layers, {place.pooling}: dev {place.metric:.4f} with the model frozen"
    )
    depth = Depth(place.layer, place.pooling, [each.to_json() for each in places])
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"layers": depth.layers, "pooling": depth.pooling, "search": depth.search})
    return depth
