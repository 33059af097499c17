"""From the texts of one request to their answers, or the reason why there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Scope

from sortal.classifier import Text
from sortal.data.fields import text_of
from sortal.data.schema import Schema
from sortal.errors import DataError
from sortal.serving.batcher import QueueFull
from sortal.serving.guard import NOTES, REQUEST_ID
from sortal.serving.logs import JsonLog
from sortal.serving.metrics import Metrics
from sortal.serving.models import Answer, ServedModel
from sortal.serving.refusals import Refusal, busy, internal
from sortal.serving.service import Service
from sortal.serving.settings import Limits


@dataclass(frozen=True)
class Asking:
    """Asks the models of a service within its limits."""

    service: Service
    limits: Limits
    metrics: Metrics
    log: JsonLog

    async def __call__(
        self, scope: Scope, name: str | None, inputs: Sequence[Text]
    ) -> tuple[ServedModel, list[Answer]]:
        """The model called ``name``, or the only one, and one answer per text; notes for the log go into ``scope``.

        Raises:
            Refusal: with the reason.
        """
        model, notes = self.model(name), scope[NOTES]
        notes |= {"model": model.name, "texts": len(inputs)}
        if len(inputs) > (most := self.limits.texts_of_a_request):
            raise Refusal(
                413, f"{len(inputs):,} texts in one request; {most:,} are the most, so send several"
            )
        texts = joined(model, inputs)
        try:
            job = self.service.submit(model, texts)
        except QueueFull as full:
            sentence = "too many texts are waiting; send these again later"
            raise busy(429, sentence, full.retry_after) from None
        try:
            answers = await asyncio.wrap_future(job.future)
        except Exception as error:
            self.log.exception("failed", error, request_id=scope[REQUEST_ID], model=model.name)
            raise internal() from None
        waited = 0.0 if job.began is None else job.began - job.since
        self.metrics.queue_seconds.observe(waited)
        tokens = sum(answer.tokens or 0 for answer in answers)
        notes |= {"tokens": tokens or None, "queue_ms": round(1000 * waited, 2)}
        return model, answers

    def model(self, name: str | None) -> ServedModel:
        """The model called ``name``, or the only one.

        Raises:
            Refusal: with the reason.
        """
        names = [about["name"] for about in self.service.about]
        if name is None and len(names) > 1:
            raise Refusal(422, f"model is missing; say which of {', '.join(names)}")
        if name is not None and name not in names:
            raise Refusal(404, f"there is no such model; served are {', '.join(names)}")
        # Not `ready`: what was accepted is answered while the server stops, too.
        if not self.service.loaded:
            raise busy(503, "the models are being loaded; ask again in a moment")
        return self.service.models[name or names[0]]


def joined(model: ServedModel, inputs: Sequence[Text]) -> list[str]:
    """Each input as one text: objects with a field per text column are joined as in training.

    Raises:
        Refusal: a field is no text column of ``model``.
    """
    schema = Schema.from_json(model.classifier.meta.get("schema", {}))
    try:
        return [each if isinstance(each, str) else text_of(each, schema) for each in inputs]
    except DataError as error:
        raise Refusal(422, f"{error.what}; {error.fix}") from None
