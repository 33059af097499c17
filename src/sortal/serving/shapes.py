"""The JSON of requests and replies: TEI's and HF inference's for ``/predict``, vLLM's for ``/classify``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sortal.data.labels import LabelSpace
from sortal.serving.models import Answer
from sortal.serving.occlusion import log_odds


def _check_texts(value: Any) -> Any:
    # The union's own messages name all of its types; this one names what is wrong.
    if isinstance(value, list):
        for number, item in enumerate(value, start=1):
            if not _is_text(item):
                raise PydanticCustomError(
                    "texts", "must hold texts only; item {number} is not one", {"number": number}
                )
    elif not _is_text(value):
        raise PydanticCustomError("texts", "must be a text or a list of texts")
    return value


def _check_text(value: Any) -> Any:
    if not _is_text(value):
        raise PydanticCustomError("text", "must be a text")
    return value


def _is_text(value: Any) -> bool:
    """A string, or an object of strings: one field per text column."""
    return isinstance(value, str) or (
        isinstance(value, dict) and all(field is None or isinstance(field, str) for field in value.values())
    )


def _check_once(value: list[str] | None) -> list[str] | None:
    if value is not None and len(set(value)) < len(value):
        raise PydanticCustomError("labels", "must name each label once")
    return value


def _as_whole(value: Any) -> Any:
    # JSON has one kind of number: 2.0 is a whole one.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text = str | dict[str, str | None]
Texts = Annotated[Text | list[Text], BeforeValidator(_check_texts)]
_ABOUT = "a text, or a list of texts; a text may be an object with one field per text column of the model"
ModelName = Annotated[str | None, Field(description="which model; needed when several are served")]


class Strict(BaseModel):
    """A request; a field that is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Parameters(Strict):
    """What HF inference calls parameters."""

    top_k: Annotated[int | None, BeforeValidator(_as_whole)] = Field(
        None, ge=1, description="only so many labels, the most probable; default: all"
    )


class PredictRequest(Strict):
    """A request of ``/predict``."""

    inputs: Texts = Field(description=_ABOUT, examples=[["where is my parcel"]])
    parameters: Parameters | None = None
    truncate: Literal[True] = Field(True, description="long texts are always cut as in training")
    model: ModelName = None


class Label(BaseModel):
    """One label of one text.

    score: calibrated probability. predicted: whether the decision gives this label: thresholds and abstention are in it.
    """

    label: str
    score: float
    predicted: bool


class ClassifyRequest(Strict):
    """A request of ``/classify``."""

    input: Texts = Field(description=_ABOUT, examples=[["where is my parcel"]])
    model: ModelName = None


class Classified(BaseModel):
    """One text.

    label: the most probable of ``labels``, null when there is none. probs: in the order of the labels in ``/info``. labels: those
    that the decision gives; empty when it abstains.
    """

    index: int
    label: str | None
    probs: list[float]
    num_classes: int
    labels: list[str]


class Usage(BaseModel):
    """Tokens of the texts as the model reads them; what all texts share (an instruction with its labels) is not counted."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: Literal[0] = 0


class ClassifyReply(BaseModel):
    """A reply of ``/classify``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classified]
    usage: Usage


class ExplainRequest(Strict):
    """A request of ``/explain``."""

    inputs: Annotated[
        Text,
        BeforeValidator(_check_text),
        Field(
            description="one text, or an object with one field per text column",
            examples=["where is my parcel"],
        ),
    ]
    labels: Annotated[
        list[str] | None,
        Field(min_length=1, description="what is asked about; default: the most probable label"),
        AfterValidator(_check_once),
    ] = None
    model: ModelName = None


class Word(BaseModel):
    """A word, or neighbouring words of a long text, with the white space after it.

    scores: probabilities of ``labels`` without it. effects: what it adds to their log-odds: those of the whole text minus those
    without it.
    """

    text: str
    scores: list[float]
    effects: list[float]


class ExplainReply(BaseModel):
    """A reply of ``/explain``.

    labels: what was asked about. scores: their probabilities for the whole text. words: joined they give the text. texts: that
    were scored. ms: from the request to its answer.
    """

    model: str
    labels: list[str]
    scores: list[float]
    words: list[Word]
    texts: int
    ms: float


class Problem(BaseModel):
    """A request that gets no answer: why, in one sentence."""

    error: str
    error_type: Literal["validation", "unauthorized", "overloaded", "unavailable", "internal"]


def ranked(answer: Answer, names: Sequence[str], top_k: int | None) -> list[dict[str, Any]]:
    """`Label` objects of one text, the most probable first."""
    given = set(answer.labels)
    order = np.argsort(-answer.probabilities, kind="stable")[:top_k].tolist()
    scores = answer.probabilities.tolist()
    return [{"label": names[i], "score": scores[i], "predicted": names[i] in given} for i in order]


def classified(answer: Answer, index: int, positions: dict[str, int]) -> dict[str, Any]:
    """A `Classified` object."""
    probabilities = answer.probabilities.tolist()
    best = max(answer.labels, key=lambda name: probabilities[positions[name]], default=None)
    return {
        "index": index,
        "label": best,
        "probs": probabilities,
        "num_classes": len(probabilities),
        "labels": list(answer.labels),
    }


def explained(
    answers: Sequence[Answer], parts: Sequence[str], labels: Sequence[str] | None, space: LabelSpace
) -> dict[str, Any]:
    """What an `ExplainReply` says about a text.

    Args:
        answers: to the text, and to it without each of ``parts``.
        labels: what is asked about; None for the most probable.
    """
    probabilities = np.stack([answer.probabilities for answer in answers])
    asked = [space.names[probabilities[0].argmax()]] if labels is None else list(labels)
    columns = [space.index[label] for label in asked]
    odds = log_odds(probabilities, columns, single=space.task == "single")
    scores, effects = probabilities[:, columns], odds[0] - odds[1:]
    return {
        "labels": asked,
        "scores": scores[0].tolist(),
        "words": [
            {"text": part, "scores": row, "effects": effect}
            for part, row, effect in zip(parts, scores[1:].tolist(), effects.tolist(), strict=True)
        ],
        "texts": len(answers),
    }
