"""What a server writes down: one line per request without its text, defects by type and place, figures."""

from __future__ import annotations

from typing import Any

from served import PATIENCE, asking, refused, serving
from sortal.serving.models import ServedModel

SECRET = "a secret that nobody may read in a log"


def test_a_request_is_one_line_with_its_id_and_without_its_text(single):
    with serving(single) as served:
        response = served.client.post("/predict", json={"inputs": SECRET}, headers={"X-Request-Id": "my-1"})
        assert response.headers["x-request-id"] == "my-1"
        bad = "b" * 200  # longer than an id may be
        other = served.client.post(
            "/classify", json={"input": [SECRET, SECRET]}, headers={"X-Request-Id": bad}
        )
        made = other.headers["x-request-id"]
        assert made != bad
        assert other.json()["id"] == f"classify-{made}"
        served.client.post("/predict", json={"inputs": {SECRET: 1}})
        served.client.post("/predict", json={"inputs": "x", SECRET: 1})
        served.client.post("/predict", json={"inputs": "x", "model": SECRET})
        served.client.get(f"/{SECRET}?text={SECRET}")
        (first, *_), (second,) = served.requests("/predict"), served.requests("/classify")
        written, page = served.written.getvalue(), served.client.get("/metrics").text
    assert {key: first[key] for key in ("request_id", "method", "status", "model", "texts")} == {
        "request_id": "my-1",
        "method": "POST",
        "status": 200,
        "model": "m",
        "texts": 1,
    }
    assert 0 <= first["queue_ms"] <= first["ms"]
    assert (second["request_id"], second["texts"]) == (made, 2)
    for hidden in (SECRET, SECRET.replace(" ", "%20"), "secret", "good"):
        assert hidden not in written
    assert "secret" not in page


def test_a_failing_text_is_a_500_that_tells_nothing_and_harms_nobody(single, monkeypatch):
    answer = ServedModel.answer

    def failing(model: ServedModel, texts: list[str]) -> Any:
        if any("bad" in text for text in texts):
            raise ValueError(f"cannot read {texts}")
        return answer(model, texts)

    with serving(single, max_latency_ms=50) as served:
        monkeypatch.setattr(ServedModel, "answer", failing)
        answers: list[Any] = []
        threads = [asking(served, text, answers) for text in ("fine", SECRET + " bad", "nice")]
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 500]
        (failed,) = [answer for answer in answers if answer.status_code == 500]
        assert "its log has the reason" in refused(failed, 500, "internal")
        (line,) = [line for line in served.log if line["event"] == "failed"]
        assert line["request_id"] == failed.headers["x-request-id"]
        assert line["type"] == "ValueError"
        assert any("failing" in frame for frame in line["at"])
        assert SECRET not in served.written.getvalue() + failed.text
        assert 'sortal_failed_batches_total{model="m"}' in served.client.get("/metrics").text


def test_a_defect_in_an_endpoint_is_a_500_in_json_and_one_line(single, monkeypatch):
    def broken(*given: Any) -> Any:
        raise KeyError(SECRET)

    with serving(single) as served:
        monkeypatch.setattr("sortal.serving.app.ranked", broken)
        refused(served.client.post("/predict", json={"inputs": "a"}), 500, "internal")
        (line,) = [line for line in served.log if line["event"] == "defect"]
        assert (line["type"], line["level"]) == ("KeyError", "error")
        assert SECRET not in served.written.getvalue()
        assert served.requests("/predict")[0]["status"] == 500


def test_metrics_count_requests_texts_and_batches(multi):
    with serving({"a": multi, "b": multi}) as served:
        for _ in range(3):
            served.client.post("/predict", json={"inputs": ["x", "y"], "model": "a"})
        served.client.post("/predict", json={"inputs": 1})
        response = served.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = response.text.splitlines()
    assert 'sortal_requests_total{path="/predict",status="200"} 3.0' in lines
    assert 'sortal_requests_total{path="/predict",status="422"} 1.0' in lines
    assert 'sortal_texts_total{model="a"} 6.0' in lines
    assert not any(line.startswith('sortal_texts_total{model="b"}') for line in lines)
    assert "sortal_queue_seconds_count 3.0" in lines
    assert "sortal_pending_texts 0.0" in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)
