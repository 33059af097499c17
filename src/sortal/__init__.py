"""Sortal: fine-tune causal language models into text classifiers, and know how good they are.

``sortal.train(...)`` fine-tunes, ``sortal.load(folder)`` returns a `Classifier`, ``sortal.SortalClassifier(...)`` is both for
scikit-learn's pipelines and searches, ``sortal.compare(...)`` says which method to take,
``sortal.check(...)`` what is wrong with the data, ``sortal.serve(folder)`` puts a model behind HTTP, and
``sortal.export(folder, to=...)`` writes it for other runtimes. Importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "SortalClassifier",
    "__version__",
    "check",
    "compare",
    "export",
    "load",
    "report",
    "serve",
    "train",
]

if TYPE_CHECKING:
    from sortal.checks.check import check
    from sortal.classifier import Classifier, load, train
    from sortal.comparison.compare import compare
    from sortal.estimator.classifier import SortalClassifier
    from sortal.exporting.export import export
    from sortal.reporting.report import report
    from sortal.serving.serve import serve

_LAZY = {
    "Classifier": "sortal.classifier",
    "SortalClassifier": "sortal.estimator.classifier",
    "check": "sortal.checks.check",
    "compare": "sortal.comparison.compare",
    "export": "sortal.exporting.export",
    "load": "sortal.classifier",
    "report": "sortal.reporting.report",
    "serve": "sortal.serving.serve",
    "train": "sortal.classifier",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        from sortal.backbone.collector import paused
        from sortal.backbone.kernels import bound_kernels

        bound_kernels()
        with paused():
            return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sortal' has no attribute {name!r}")
