"""The models of a server and the thread that owns them: loading, readiness, answering, the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from sortal.backbone.held import HeldWeights
from sortal.serving.batcher import BatchDone, Batcher
from sortal.serving.logs import JsonLog
from sortal.serving.metrics import Metrics
from sortal.serving.models import Answer, ServedModel, describe
from sortal.serving.settings import Limits
from sortal.serving.waiting import Job


class Service:
    """Models by name, loaded and run in one thread so that two forwards never compete for the same cores.

    Args:
        folders: name to model folder.

    Attributes:
        draining: set when the server is about to stop: what was accepted is answered, new requests are refused.
        failure: what ended the thread, None while it runs.

    Raises:
        ModelError: a folder is not a model's, or is damaged.
    """

    def __init__(self, folders: Mapping[str, Path], limits: Limits, metrics: Metrics, log: JsonLog) -> None:
        self.about = [describe(name, folder) for name, folder in folders.items()]
        self.models: dict[str, ServedModel] = {}
        self.draining = False
        self.failure: Exception | None = None
        self._folders, self._limits, self._metrics, self._log = folders, limits, metrics, log
        self._batcher: Batcher[Answer] = Batcher(
            latency=limits.max_latency_ms / 1000, max_texts=limits.max_queue, watch=self._watch
        )
        metrics.pending.set_function(lambda: self._batcher.pending)
        metrics.ready.set_function(lambda: float(self.ready))
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)
        self._loaded = threading.Event()

    @property
    def loaded(self) -> bool:
        """Whether all models are loaded and warm."""
        return self._loaded.is_set()

    @property
    def ready(self) -> bool:
        """Whether new requests are answered."""
        return self.loaded and self.alive and not self.draining

    @property
    def alive(self) -> bool:
        """Whether the models' thread runs; without it no request is ever answered."""
        return self._thread.is_alive()

    @property
    def retry_after(self) -> int:
        """Seconds until what is accepted should be answered."""
        return self._batcher.retry_after

    def start(self) -> None:
        """Load the models; returns at once."""
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the models are loaded; whether they are."""
        return self._loaded.wait(seconds)

    def submit(self, model: ServedModel, texts: Sequence[str]) -> Job[Answer]:
        """Accept texts; ``job.future`` gives their answers.

        Raises:
            QueueFull: there is no room.
        """
        return self._batcher.submit(model, texts)

    def close(self, seconds: float) -> None:
        """Answer what was accepted, and end the thread; waits for it so long at most."""
        self._batcher.close()
        if self.alive:
            self._thread.join(seconds)

    def _work(self) -> None:
        try:
            weights, limits = HeldWeights(), self._limits
            # A model by itself takes its adapters into its weights, which others could not share; 8-bit weights are its own anyway.
            shared = len(self._folders) > 1 and limits.weights == "saved"
            for name, folder in self._folders.items():
                began, spared = time.monotonic(), weights.spared
                with weights.sharing() if shared else nullcontext():
                    model = ServedModel.load(name, folder, limits.max_batch_tokens, limits.weights)
                self.models[name] = model
                seconds = round(time.monotonic() - began, 3)
                self._log(
                    "loaded",
                    model=name,
                    batch_tokens=model.batch_tokens,
                    shared_mb=round((weights.spared - spared) / 1e6),
                    seconds=seconds,
                )
            self._loaded.set()
            self._log("ready", models=list(self.models))
            self._batcher.run()
        except Exception as error:  # the main thread raises it again
            self.failure = error

    def _watch(self, batch: BatchDone[Answer]) -> None:
        model = batch.model
        assert isinstance(model, ServedModel)
        self._metrics.batch_texts.labels(model.name).observe(batch.texts)
        self._metrics.batch_seconds.labels(model.name).observe(batch.seconds)
        if not batch.answers:
            self._metrics.failed_batches.labels(model.name).inc()
        self._metrics.texts.labels(model.name).inc(len(batch.answers))
        self._metrics.tokens.labels(model.name).inc(sum(answer.tokens or 0 for answer in batch.answers))
