"""Hundreds and thousands of labels, most of them rare: thresholds of ``tfidf``, and losses of an encoder, on patents.

    python -m benchmarks.rare_labels                       # everything; a finished run is only read
    python -m benchmarks.rare_labels --parts thresholds

Looks for us_patents_ipc in $SORTAL_DATA (or --data). Writes benchmarks/results/rare_labels.json and rare_labels.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.paper.sets import Sizes, write_set

RESULTS = Path(__file__).parent / "results"
LEVELS = {"patents-subclasses": "IPC subclasses (A01B)", "patents-groups": "IPC main groups (A01B 1)"}
# The declared subset of the losses: seeded rows of each part, so many words of each text.
SAMPLE = Sizes(train=800, dev=250, test=600, words=16)
ENCODER: dict[str, Any] = {
    "method": "encoder",
    "model": "minilm-l6",
    "max_length": 96,
    "batch_size": 16,
    "epochs": 3,
}
_SHARED = {"text": "text", "label": "labels", "id": "id", "task": "multi", "threads": 1, "seed": 0}
LOSSES: dict[str, dict[str, Any]] = {
    "BCE": {},
    "asymmetric": {"loss": "asymmetric"},
    "negative_smoothing": {"negative_smoothing": 0.001},
    "logit_adjustment": {"logit_adjustment": 0.5},
    "pos_weight": {"pos_weight": 10.0},
}


def encoder_run(loss: str, data: Path, runs: Path) -> Any:
    """The finished run of the encoder with one loss."""
    from sortal.config import build_config
    from sortal.run import run

    files = write_set("patents-subclasses", data, SAMPLE, runs / "data" / "patents-subclasses-sample")
    out = runs / f"patents-subclasses-sample-{loss}"
    return run(build_config({**files, **_SHARED, **ENCODER, **LOSSES[loss], "out": str(out)}), resume=True)


def tfidf_run(level: str, data: Path, runs: Path) -> Any:
    """The finished run of ``tfidf`` on all rows."""
    from sortal.config import build_config
    from sortal.run import run

    files = write_set(level, data, Sizes(None, None, None, None), runs / "data" / level)
    return run(
        build_config({**files, **_SHARED, "method": "tfidf", "out": str(runs / f"{level}-tfidf")}),
        resume=True,
    )
