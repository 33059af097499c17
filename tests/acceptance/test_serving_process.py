"""V2: ``sortal serve`` as a process of its own, under load, at its start and at its end."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

import sortal
from commands import Command
from tiny_runs import HARD_TEXTS

TEXTS = [*HARD_TEXTS, *(f"fine {n}" for n in range(20))]
PATIENCE = 120.0


class Server:
    """``sortal serve`` in a process of its own, on a free port unless it is told which."""

    def __init__(self, *words: str | Path, folder: Path, port: str = "0") -> None:
        self.command = Command("serve", *words, "--port", port, folder=folder)
        self.command.until(lambda: bool(self.events("listening")))
        self.url = self.events("listening")[0]["url"]

    @property
    def log(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in self.command.stdout.splitlines(keepends=True) if line[-1] == "\n"
        ]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == name]

    def until_ready(self) -> None:
        self.command.until(lambda: bool(self.events("ready")))

    def memory(self) -> float:
        page = httpx2.get(f"{self.url}/metrics").text
        found = re.search(r"^process_resident_memory_bytes (\S+)$", page, re.MULTILINE)
        assert found is not None
        return float(found[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "number"), [("tfidf", signal.SIGTERM), ("tfidf", signal.SIGINT), ("head", signal.SIGTERM)]
)
def test_v2_a_signal_under_load_loses_no_accepted_request(kind, number, made, tmp_path):
    """V2: clients of a real process; every request that it accepted is answered, new ones get 503, and it ends with 0."""
    server = Server(made(kind), folder=tmp_path)
    server.until_ready()
    expected = sortal.load(made(kind)).predict_proba(TEXTS).tolist()
    outcomes: list[tuple[str, int]] = []
    wrong: list[str] = []
    enough = threading.Event()

    def ask(client_number: int) -> None:
        with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
            for turn in range(100_000):
                name, at = f"c{client_number}-{turn}", (client_number + turn) % len(TEXTS)
                try:
                    response = client.post(
                        "/classify", json={"input": TEXTS[at]}, headers={"X-Request-Id": name}
                    )
                except httpx2.TransportError:
                    outcomes.append((name, 0))
                    return  # it has closed its port
                outcomes.append((name, response.status_code))
                if response.status_code == 200:
                    probs = response.json()["data"][0]["probs"]
                    if probs != pytest.approx(expected[at], abs=1e-5):
                        wrong.append(name)
                if len(outcomes) > 300:
                    enough.set()

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(16)]
    for thread in threads:
        thread.start()
    assert enough.wait(PATIENCE)
    server.command.send(number)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert server.command.wait() == 0, server.command.stderr
    statuses = Counter(status for _, status in outcomes)
    assert set(statuses) <= {200, 503, 0}, statuses
    assert wrong == []
    # What the server let in, it answered; and each of these answers arrived.
    requests = {line["request_id"]: line["status"] for line in server.events("request")}
    answered = {name for name, status in outcomes if status == 200}
    assert {name for name, status in requests.items() if status == 200} == answered
    lost = {name for name, status in outcomes if status == 0}
    assert not lost & set(requests)
    (stopped,) = server.events("stopped")
    assert (stopped["accepted"], stopped["unanswered"]) == (len(answered), 0)
    (draining,) = server.events("draining")
    assert draining["signal"] == signal.Signals(number).name
    assert server.command.stderr == ""


@pytest.mark.slow
def test_v2_a_killed_server_is_back_on_its_port_and_who_asks_again_has_every_answer(made, tmp_path):
    """V2: SIGKILL under load leaves nothing behind: the same command starts at once, and only open requests have to be sent again."""
    folder = made("head")
    files = sorted(folder.iterdir())
    expected = sortal.load(folder).predict_proba(TEXTS).tolist()
    server = Server(folder, folder=tmp_path)
    server.until_ready()
    answers: dict[tuple[int, int], list[float]] = {}
    broken: Counter[int] = Counter()
    enough, back = threading.Event(), threading.Event()

    def ask(client_number: int) -> None:
        with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
            for turn in range(len(TEXTS)):
                at = (client_number + turn) % len(TEXTS)
                while (client_number, at) not in answers:
                    try:
                        response = client.post("/classify", json={"input": TEXTS[at]})
                    except httpx2.TransportError:
                        broken[client_number] += 1
                        assert back.wait(PATIENCE)
                        continue
                    assert response.status_code == 200
                    answers[client_number, at] = response.json()["data"][0]["probs"]
                    if len(answers) > 20:
                        enough.set()

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    assert enough.wait(PATIENCE)
    server.command.send(signal.SIGKILL)
    assert server.command.wait() == -signal.SIGKILL
    again = Server(folder, folder=tmp_path, port=server.url.rpartition(":")[2])
    assert again.url == server.url
    again.until_ready()
    back.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(answers) == 8 * len(TEXTS)
    for (_, at), probs in answers.items():
        assert probs == pytest.approx(expected[at], abs=1e-5)
    assert broken
    assert set(broken.values()) == {1}  # the request that was open
    assert sorted(folder.iterdir()) == files
    again.command.send(signal.SIGTERM)
    assert again.command.wait() == 0


@pytest.mark.slow
def test_v2_memory_stays_where_it_is_and_the_queue_answers_429(made, tmp_path):
    """V2: 50 clients past the queue's bound get 429 with Retry-After or an answer, and memory grows by less than 5 %."""
    server = Server(made("tfidf"), "--max-queue", 8, folder=tmp_path)
    server.until_ready()
    statuses: Counter[int] = Counter()
    without: list[int] = []

    def load(requests: int) -> None:
        def ask() -> None:
            with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
                for turn in range(requests):
                    response = client.post("/predict", json={"inputs": [f"fine {turn}"] * 4})
                    statuses[response.status_code] += 1
                    if response.status_code == 429 and int(response.headers["retry-after"]) < 1:
                        without.append(turn)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    load(10)
    before = server.memory()
    load(30)
    after = server.memory()
    assert set(statuses) == {200, 429}, statuses
    assert sum(statuses.values()) == 50 * 40
    assert without == []
    assert after < 1.05 * before
    server.command.send(signal.SIGTERM)
    assert server.command.wait() == 0


@pytest.mark.slow
def test_v2_it_is_not_ready_before_it_is_warm_and_a_broken_folder_ends_it(made, tmp_path):
    """V2: the port answers while the model is loaded; a folder whose parts do not fit ends the process with the reason."""
    server = Server(made("head"), folder=tmp_path)
    first = httpx2.get(f"{server.url}/ready")
    ready = bool(server.events("ready"))
    assert first.status_code == 503 or ready
    assert httpx2.get(f"{server.url}/health").status_code == 200
    server.until_ready()
    assert httpx2.get(f"{server.url}/ready").json() == {"status": "ready"}
    server.command.send(signal.SIGTERM)
    assert server.command.wait() == 0
    shutil.copytree(made("head"), tmp_path / "broken")
    (tmp_path / "broken" / "tokenizer.json").unlink()
    broken = Command("serve", tmp_path / "broken", "--port", "0", folder=tmp_path)
    assert broken.wait() == 2
    assert broken.stderr.startswith("error: ")
    assert "Traceback" not in broken.stderr


@pytest.mark.slow
def test_a_taken_port_is_a_sentence(made, tmp_path):
    server = Server(made("tfidf"), folder=tmp_path)
    port = server.url.rpartition(":")[2]
    second = Command("serve", made("tfidf"), "--port", port, folder=tmp_path)
    assert second.wait() == 3
    assert f"cannot listen on 127.0.0.1, port {port}" in second.stderr
    server.command.send(signal.SIGTERM)
    assert server.command.wait() == 0


def unfinished_request(url: str) -> socket.socket:
    """A connection whose request the server has accepted and whose body does not come."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 15\r\n"
    connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # said when the body is asked for
    return connection


@pytest.mark.slow
def test_a_signal_waits_for_a_request_that_is_still_being_sent(made, tmp_path):
    server = Server(made("tfidf"), folder=tmp_path)
    server.until_ready()
    with unfinished_request(server.url) as connection:
        server.command.send(signal.SIGTERM)
        server.command.until(lambda: bool(server.events("draining")))
        assert server.events("draining")[0]["open"] == 1
        assert httpx2.get(f"{server.url}/ready").status_code == 503
        assert httpx2.post(f"{server.url}/predict", json={"inputs": "a"}).status_code == 503
        connection.sendall(b'{"inputs": "a"}')
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert server.command.wait() == 0
    assert server.events("stopped")[0]["accepted"] == 1


@pytest.mark.slow
def test_a_second_signal_does_not_wait(made, tmp_path):
    server = Server(made("tfidf"), folder=tmp_path)
    server.until_ready()
    with unfinished_request(server.url):
        server.command.send(signal.SIGTERM)
        server.command.until(lambda: bool(server.events("draining")))
        server.command.send(signal.SIGTERM)
        assert server.command.wait() == 143
    assert server.command.stderr.startswith("stopped by a second SIGTERM")


@pytest.mark.slow
def test_an_end_that_takes_too_long_is_told(made, tmp_path):
    server = Server(made("tfidf"), "--drain-seconds", "0", folder=tmp_path)
    server.until_ready()
    with unfinished_request(server.url) as connection:
        server.command.send(signal.SIGTERM)
        assert server.command.wait() == 3
        reply = connection.recv(10_000)
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b"stopped before this request was answered" in reply
    assert "1 accepted requests were not answered within 0 seconds" in server.command.stderr
    assert server.events("stopped")[0]["unanswered"] == 1
