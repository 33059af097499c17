"""V1: requests made from our own OpenAPI document, near misses of them, and anything at all."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from served import serving
from sortal.serving.shapes import ClassifyReply, ExplainReply, Label, Problem


def values(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON schema of our document allows."""
    if "$ref" in schema:
        return values(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return st.one_of(*(values(part, document) for part in schema["anyOf"]))
    if "const" in schema:
        return st.just(schema["const"])
    kind = schema["type"]
    if kind == "object":
        if "properties" not in schema:  # one string for each text column
            return st.dictionaries(STRINGS, values(schema["additionalProperties"], document), max_size=3)
        required = set(schema.get("required", ()))
        fields = {name: values(part, document) for name, part in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: field for name, field in fields.items() if name in required},
            optional={name: field for name, field in fields.items() if name not in required},
        )
    if kind == "array":
        return st.lists(values(schema["items"], document), max_size=6)
    whole = st.integers(schema.get("minimum"))
    numbers = whole | whole.filter(lambda n: abs(n) < 2**53).map(float)  # to JSON the same
    return {"string": STRINGS, "integer": numbers, "null": st.none()}[kind]


STRINGS = st.text(st.characters(), max_size=40)  # surrogates and control characters included
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["inputs", "input", "parameters", "top_k", "model", "truncate"]) | STRINGS
KINDS_OF_BODY = st.sampled_from(
    ["application/json", "application/json; charset=utf-8", "text/plain", "", "x"]
)
NEAR = st.dictionaries(FIELDS, JSONS, max_size=4)
MANY = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def fuzzed(made):
    with serving({"one": made("tfidf"), "many": made("tfidf, multi")}, max_texts=4) as served:
        yield served


def checked(response: Any, document: dict[str, Any]) -> None:
    """No 5xx; a documented status; one clear sentence unless it is an answer."""
    assert response.status_code in (200, 400, 404, 405, 413, 415, 422), response.text
    path = response.request.url.path
    if response.status_code == 200:
        return
    problem = Problem.model_validate(response.json())
    assert "\n" not in problem.error
    assert "Traceback" not in problem.error
    assert len(problem.error) < 400
    if path in document["paths"] and response.status_code != 405:
        (method,) = document["paths"][path].values()
        assert str(response.status_code) in method["responses"]


@pytest.mark.parametrize("path", ["/predict", "/classify", "/explain"])
def test_v1_requests_of_our_own_document_are_answered(path, fuzzed):
    """V1: whatever the OpenAPI document allows is answered, or refused with a status that it names; and 200s have its shape."""
    document = fuzzed.client.get("/openapi.json").json()
    statuses: Counter[int] = Counter()
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    bodies = values(schema, document)

    @settings(MANY, max_examples=400)
    @given(
        bodies,
        st.sampled_from(["one", "many", None]),
        st.sampled_from(list(document["paths"])),
    )
    def ask(body, name, other):
        if name is not None:
            body = {**body, "model": name}
        kind = {"content-type": "application/json"}
        sent = json.dumps(body)  # as ASCII: lone surrogates travel as escapes
        response = fuzzed.client.post(path, content=sent, headers=kind)
        checked(response, document)
        statuses[response.status_code] += 1
        given = body.get("inputs", body.get("input"))
        if response.status_code == 200 and path == "/classify":
            reply = ClassifyReply.model_validate(response.json())
            assert len(reply.data) == (1 if isinstance(given, str | dict) else len(given))
        elif response.status_code == 200 and path == "/explain":
            ExplainReply.model_validate(response.json())
        elif response.status_code == 200:
            shape = list[Label] if isinstance(given, str | dict) else list[list[Label]]
            answers = TypeAdapter(shape).validate_python(response.json())
            assert isinstance(given, str | dict) or len(answers) == len(given)
        checked(fuzzed.client.post(other, content=sent, headers=kind), document)

    ask()
    assert statuses[200] > 50, "the document allows little that is answered"


def test_v1_anything_else_is_refused_in_json(fuzzed):
    """V1: near misses, any JSON, any bytes, any content type, any method and path."""
    document = fuzzed.client.get("/openapi.json").json()
    paths = st.sampled_from([*document["paths"], "/", "/predict/", "/x y", "/%00", "/..%2fetc"])
    methods = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
    bodies = st.one_of(st.binary(max_size=60), (NEAR | JSONS).map(lambda value: json.dumps(value).encode()))
    ids = st.binary(max_size=200).map(lambda raw: re.sub(rb"[\x00-\x1f\x7f]", b"", raw).strip())

    @MANY
    @given(methods, paths, bodies, KINDS_OF_BODY, ids)
    def ask(method, path, body, kind, name):
        headers = [(b"content-type", kind.encode()), (b"x-request-id", name)]
        response = fuzzed.client.request(method, path, content=body, headers=headers)
        checked(response, document)
        assert re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", response.headers["x-request-id"])

    ask()
    levels = {line["level"] for line in fuzzed.log}
    assert levels == {"info"}, "nothing went wrong inside, either"
