"""Figures of a running server in Prometheus' format."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from sortal import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters and histograms of one server; label values come from paths and model names, never from requests."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("sortal_build_info", "Version of Sortal.", ["version"], registry=registry).labels(
            __version__
        ).set(1)
        self.ready = Gauge("sortal_ready", "1 when requests are answered.", registry=registry)
        self.requests = Counter(
            "sortal_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "sortal_request_seconds",
            "From a request's first byte of body to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.pending = Gauge("sortal_pending_texts", "Texts accepted and not answered.", registry=registry)
        self.queue_seconds = Histogram(
            "sortal_queue_seconds",
            "From acceptance to the start of its first batch, per request.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.texts = Counter("sortal_texts", "Texts scored.", ["model"], registry=registry)
        self.tokens = Counter("sortal_tokens", "Tokens of scored texts.", ["model"], registry=registry)
        self.failed_batches = Counter(
            "sortal_failed_batches",
            "Batches that failed; their halves are tried again.",
            ["model"],
            registry=registry,
        )
        self.batch_texts = Histogram(
            "sortal_batch_texts", "Texts of a batch.", ["model"], buckets=_COUNTS, registry=registry
        )
        self.batch_seconds = Histogram(
            "sortal_batch_seconds", "Time of a batch.", ["model"], buckets=_SECONDS, registry=registry
        )

    def page(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
