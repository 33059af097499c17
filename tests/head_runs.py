"""Short runs of method head on tiny models of several families."""

from __future__ import annotations

import json
from types import SimpleNamespace

from tiny_runs import fit

LABELS = ("odd", "good", "bad")
TOPICS = [
    ("parcel late", "delivery"),
    ("money back", "refund"),
    ("late parcel money", "delivery|refund"),
    ("hello", ""),
]


def head_runs(tmp_path_factory, tiny_models, data):
    """``runs(family, **settings)``: a run on ``data``, made once for every combination asked for."""
    made: dict[tuple, SimpleNamespace] = {}

    def run(family="llama", **settings):
        key = (family, *sorted(settings.items()))
        if key not in made:
            base, out = tiny_models[family], tmp_path_factory.mktemp("run") / "out"
            said: list[str] = []
            result = fit(data, base, out, said=said, **settings)
            made[key] = SimpleNamespace(
                result=result, classifier=result.classifier, model=out / "model", base=base, said=said
            )
        return made[key]

    return run


def read_json(path):
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
