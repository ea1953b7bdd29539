"""What a server must bear: any bytes, clients that give up, a full queue, a busy device, questions about it."""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_device import CPUDevice, serving

from tritape.host.chat import CHUNK
from tritape.host.server.schema import MAX_BODY, ChatRequest, CompletionRequest, ConversationRequest

PROMPT = "It is a truth universally acknowledged, that"
POSTS = ("/v1/completions", "/v1/chat/completions", "/conversation")


@pytest.fixture(scope="module")
def device() -> CPUDevice:
    return CPUDevice()


@pytest.fixture(scope="module")
def url(device: CPUDevice) -> Iterator[str]:
    with serving(device, device.served, queue=8, cors=["https://example.org"]) as address:
        yield address


@contextmanager
def slow(device: CPUDevice, pause_s: float) -> Iterator[None]:
    device.pause_s = pause_s
    try:
        yield
    finally:
        device.pause_s = 0.0


def ask(
    url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers, body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if headers is None else headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def complete(url: str, **fields: Any) -> tuple[int, Any]:
    body = {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, **fields}
    status, _, answer = ask(url, "POST", "/v1/completions", json.dumps(body).encode())
    return status, json.loads(answer)


def metric(url: str, name: str) -> float:
    _, headers, text = ask(url, "GET", "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    return float(next(line for line in text.decode().splitlines() if line.startswith(f"{name} ")).split()[-1])


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


# Any bytes.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [*CompletionRequest.model_fields, *ChatRequest.model_fields, *ConversationRequest.model_fields, "x"]
)
SOUND = {"prompt": "a", "text": "a", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}


def _object(wrong: dict[str, Any], keep: int, surrogate: bool) -> bytes:
    sound = {name: value for place, (name, value) in enumerate(SOUND.items()) if keep >> place & 1}
    text = json.dumps({**sound, **wrong})
    return (text.replace("a", "\\ud800") if surrogate else text).encode()


BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.builds(_object, st.dictionaries(FIELDS, JSON, max_size=4), st.integers(0, 15), st.booleans()),
    st.sampled_from(
        [b"[" * 100_000, b'{"prompt":' * 50_000, b"1" * 10_000, b'{"seed":' + b"9" * 5000 + b"}", b"\xff\xfe", b""]
    ),
)


@pytest.mark.slow
@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(path=st.sampled_from(POSTS), body=BODIES)
def test_any_body(url, path, body):
    """1,000 bodies: none is a fault of the server's, and every refusal is OpenAI's object."""
    status, _, answer = ask(url, "POST", path, body)
    assert status == 200 or 400 <= status < 500, answer
    if status != 200:
        error = json.loads(answer)["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "body must be JSON, not other bytes"),
        (b"[1]", 400, "body must be a JSON object, not list"),
        (b'{"temperature": NaN}', 400, "NaN is no JSON"),
        (
            b'{"temperature": 1e999, "prompt": "a", "text": "a", "messages": [{"role": "user", "content": "a"}]}',
            400,
            "temperature: ",
        ),
        (b'{"prompt": "\\ud800", "max_tokens": 2}', 400, None),
        (b" " * (MAX_BODY + 1), 413, f"body must have at most {MAX_BODY} bytes"),
    ],
)
def test_wrong_bodies(url, path, body, status, message):
    got, _, answer = ask(url, "POST", path, body)
    assert got == status
    assert message is None or message in json.loads(answer)["error"]["message"]


def test_text_that_is_no_unicode(url):
    status, answer = complete(url, prompt="\ud800")
    assert (status, answer["error"]["param"]) == (400, "prompt")
    assert "text must be UTF-8" in answer["error"]["message"]


def test_errors_about_text_that_is_no_unicode(url):
    """An error may repeat what was sent; JSON has a form for it."""
    talk = {"format": 1, "model": "\ud800", "pending": [], "text": "", "state": ""}
    status, _, answer = ask(url, "POST", "/conversation", json.dumps({"text": "a", "conversation": talk}).encode())
    assert status == 400
    assert "must be of model abababababab, not \ud800" in json.loads(answer)["error"]["message"]


def test_bodies_say_that_they_are_json(url):
    """Pages of other origins can post texts and forms without asking; they cannot post JSON."""
    status, _, answer = ask(url, "POST", "/v1/completions", b'{"prompt": "a"}', {"Content-Type": "text/plain"})
    assert status == 415
    assert "Content-Type must be application/json, not 'text/plain'" in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_unknown_routes(url, method, path, status):
    got, _, answer = ask(url, method, path, b"{}")
    assert got == status
    assert json.loads(answer)["error"] == {
        "message": f"route must be one of docs/server.md, not '{method} {path}'; change it",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/v1/models", "/v1/models/austen"])
def test_head(url, path):
    """As GET, without the body."""
    status, headers, body = ask(url, "HEAD", path)
    assert (status, body) == (200, b"")
    assert headers["content-type"] == ask(url, "GET", path)[1]["content-type"]


def test_cors(url, device):
    """The origin that was allowed may ask; another, and every one without the option, is not told so."""
    wanted = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    status, headers, _ = ask(
        url,
        "OPTIONS",
        "/v1/completions",
        headers={**wanted, "Access-Control-Request-Headers": "content-type,authorization"},
    )
    assert (status, headers["access-control-allow-origin"]) == (200, "https://example.org")
    assert ask(url, "GET", "/v1/models", headers=wanted)[1]["access-control-allow-origin"] == "https://example.org"
    other = {**wanted, "Origin": "https://example.com"}
    assert ask(url, "OPTIONS", "/v1/completions", headers=other)[0] == 400
    assert "access-control-allow-origin" not in ask(url, "GET", "/v1/models", headers=other)[1]
    with serving(device, device.served) as closed:
        assert "access-control-allow-origin" not in ask(closed, "GET", "/v1/models", headers=wanted)[1]


# A busy device.


def hang_up(url: str, started: Callable[[], bool], **fields: Any) -> None:
    """Ask, wait until the device works on it, and give up."""
    body = json.dumps({"temperature": 0, **fields}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    host, port = urlsplit(url).netloc.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        until(started)


@pytest.mark.parametrize("logprobs", [None, 1])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("length", [10, 3000])
def test_a_client_that_gives_up_frees_the_device(url, device, stream, length, logprobs):
    """Within 16 tokens, in the prompt as in the answer, streaming or not."""
    before, cancelled = device.ran, metric(url, 'tritape_requests_total{outcome="cancelled"}')
    with slow(device, 0.002):
        hang_up(
            url,
            lambda: device.ran > before + 40,
            prompt=[1] * length,
            max_tokens=4000,
            stream=stream,
            logprobs=logprobs,
        )
        ran = device.ran
        until(lambda: metric(url, "tritape_slots_busy") == 0)
        assert device.ran - ran <= CHUNK
        assert complete(url)[0] == 200
    assert metric(url, 'tritape_requests_total{outcome="cancelled"}') == cancelled + 1


def test_who_gives_up_in_the_queue_is_never_run(url, device):
    before = device.ran
    with slow(device, 0.005):
        first = threading.Thread(target=complete, args=(url,), kwargs={"max_tokens": 60})
        first.start()
        until(lambda: device.ran > before)
        hang_up(url, lambda: metric(url, "tritape_queue_length") == 1, prompt=[1], max_tokens=4000)
        until(lambda: metric(url, "tritape_queue_length") == 0)
        first.join()
        time.sleep(0.1)
    assert device.ran == before + len(device.codec.encode(PROMPT)) + 59


def test_a_full_queue_and_questions_under_load(url, device):
    """8 may wait, the others are sent away with 429; what is asked about the server meanwhile is answered at once."""
    statuses: list[int] = []
    longest = 0.0
    with slow(device, 0.004):
        threads = [threading.Thread(target=lambda: statuses.append(complete(url, max_tokens=30)[0])) for _ in range(30)]
        for thread in threads:
            thread.start()
        until(lambda: metric(url, "tritape_queue_length") == 8)
        for path in ("/health", "/v1/models", "/") * 10:
            start = time.monotonic()
            assert ask(url, "GET", path)[0] == 200
            longest = max(longest, time.monotonic() - start)
        assert metric(url, "tritape_slots_busy") == 1
        for thread in threads:
            thread.join()
    assert sorted(set(statuses)) == [200, 429]
    assert statuses.count(200) >= 9
    assert longest < 0.5
    status, answer = complete(url)
    assert status == 200, answer


def test_a_full_queue_in_openais_form(device):
    with serving(device, device.served, queue=1) as url, slow(device, 0.005):
        before = device.ran
        threads = [threading.Thread(target=complete, args=(url,), kwargs={"max_tokens": 100}) for _ in range(2)]
        threads[0].start()
        until(lambda: device.ran > before)
        threads[1].start()
        until(lambda: metric(url, "tritape_queue_length") == 1)
        status, headers, answer = ask(url, "POST", "/v1/completions", b'{"prompt": "a"}')
        assert (status, headers["retry-after"]) == (429, "1")
        assert json.loads(answer)["error"]["type"] == "rate_limit_error"
        for thread in threads:
            thread.join()


# Metrics.


class Sensor:
    """100 W."""

    name, unit, scope = "fake", "W", "a fake board"
    closed = lost = False

    def read(self) -> float:
        if self.lost:
            raise OSError("pulled")
        return 100.0

    def close(self) -> None:
        self.closed = True


def test_metrics(device):
    """What they count, in Prometheus' format, and the energy of a sensor over time."""
    sensor = Sensor()
    with serving(device, device.served, sensor=sensor) as url:
        start = time.monotonic()
        assert complete(url, max_tokens=7)[0] == 200
        assert complete(url, max_tokens=7, n=21)[0] == 400
        device.fail_at = 3
        assert complete(url)[0] == 503
        device.fail_at = None
        ids = len(device.codec.encode(PROMPT))
        assert metric(url, 'tritape_tokens_total{kind="completion"}') == 7
        assert metric(url, 'tritape_tokens_total{kind="prompt"}') == ids, "and none of a chunk that failed"
        for outcome, count in {"ok": 1, "refused": 1, "failed": 1, "cancelled": 0}.items():
            assert metric(url, f'tritape_requests_total{{outcome="{outcome}"}}') == count
        assert metric(url, "tritape_faults_total") == 1
        assert metric(url, "tritape_crc_errors_total") == 0
        assert (metric(url, "tritape_slots"), metric(url, "tritape_slots_busy")) == (1, 0)
        time.sleep(0.5)
        joules, seconds = metric(url, "tritape_joules_total"), time.monotonic() - start
        assert math.isclose(joules, 100 * seconds, rel_tol=0.3)
        _, _, text = ask(url, "GET", "/metrics")
        assert b"# TYPE tritape_joules_total counter" in text
    assert sensor.closed
    with serving(device, device.served) as url:
        assert b"joules" not in ask(url, "GET", "/metrics")[2]


def test_a_lost_sensor(device, caplog):
    """Joules that stand still would be wrong a token: they are gone, and why is said."""
    sensor = Sensor()
    with serving(device, device.served, sensor=sensor) as url:
        until(lambda: metric(url, "tritape_joules_total") > 0)
        sensor.lost = True
        until(lambda: b"joules" not in ask(url, "GET", "/metrics")[2])
    assert "fake: sensor must stay readable, not vanish (pulled); check it and start again" in caplog.text
    assert sensor.closed
