"""The server in front of devices with four slots: requests share steps, and go on elsewhere when a device is lost."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from served_device import GONE, CPUDevice, serving
from small_board import small_model
from test_host_batch import alone
from test_host_draft import T4, Always

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.host.draft import Draft
from tritape.host.draft.model import ModelDraft
from tritape.host.draft.ngram import NGramDraft
from tritape.host.server import Backend, Served
from tritape.model.tape.assembler import image
from tritape.model.tokenizer import ByteTokenizer
from tritape.sim.golden_device import GoldenDevice

MODEL, CODEC = small_model(), ByteTokenizer()
SERVED = Served("small", CODEC, 256, MODEL.logit_fraction, "ab" * 32, slots=4)


def opened(draft: Draft | None = None) -> tuple[Device, GoldenDevice]:
    transport = GoldenDevice(T4, MODEL)
    device = Device(transport)
    device.load_tape(image(MODEL, T4.groups, T4.max_rows))
    device.speculate(draft)
    device.pace = Always()
    return device, transport


def post(url: str, **body: object) -> tuple[int, dict]:
    """Status and answer; a full queue is come back to."""
    while True:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        status, content = answer.status, json.loads(answer.read())
        connection.close()
        if status != 429:
            return status, content
        assert answer.getheader("Retry-After") == "1"
        time.sleep(0.02)


def get(url: str, path: str) -> str:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def random_request(chooser: random.Random) -> dict:
    return {
        "prompt": "".join(chooser.choices("abcdefgh ", k=chooser.choice((1, 3, 8, 40)))),
        "max_tokens": chooser.randint(1, 30),
        "temperature": chooser.choice((0, 0, 0.7, 1.2)),
        "seed": chooser.randrange(10),
        "n": chooser.choice((1, 1, 1, 2, 5)),
    }


def texts(request: dict) -> list[str]:
    """What each choice of a request is alone."""
    prompt = tuple(request["prompt"].encode())
    return [
        CODEC.decode(alone(prompt, request["max_tokens"], float(request["temperature"]), request["seed"] + number))
        for number in range(request["n"])
    ]


def answered(url: str, request: dict) -> list[str]:
    status, answer = post(url, **request)
    assert status == 200, answer
    return [choice["text"] for choice in answer["choices"]]


@pytest.mark.slow
@pytest.mark.parametrize("draft", [None, NGramDraft(), ModelDraft(MODEL, "itself")], ids=["plain", "ngram", "model"])
def test_neighbours_do_not_matter(draft: Draft | None):
    """200 random requests, 16 at a time, more than the queue has room for: every text is that of the request alone."""
    chooser = random.Random(8)
    requests = [random_request(chooser) for _ in range(200)]
    device, transport = opened(draft)
    with serving(device, SERVED, queue=8) as url, ThreadPoolExecutor(16) as clients:
        came = list(clients.map(lambda request: answered(url, request), requests))
    assert came == [texts(request) for request in requests]
    alone_steps = sum(request["n"] * (len(request["prompt"]) + request["max_tokens"] - 1) for request in requests)
    assert transport.steps < alone_steps / (3.4 if draft is None else 3.6)  # of 4


@pytest.mark.long
def test_eight_clients_have_their_share():
    """Each asks again as soon as it is answered: the steps of all are 3.6 times as full as one client's, and shared evenly."""
    request = {"prompt": "Emma was", "max_tokens": 200, "temperature": 0}
    device, transport = opened()
    with serving(device, SERVED) as url:
        start = transport.steps
        answered(url, {**request, "n": 1})
        one = 200 / (transport.steps - start)
        start, done, over = transport.steps, [0] * 8, threading.Event()

        def client(number: int) -> None:
            while not over.is_set():
                answered(url, {**request, "seed": number, "temperature": 0.9})
                if not over.is_set():
                    done[number] += 1
                if sum(done) >= 40:
                    over.set()

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(client, range(8)))
            steps = transport.steps - start
    assert (sum(done) + 7) * 200 / steps / one > 3.6  # those under way at the end are answered too
    assert min(done) / (sum(done) / 8) >= 0.7


@contextmanager
def two(first: Device, second: Device, **options: object) -> Iterator[tuple[str, list[TritapeError]]]:
    ejected: list[TritapeError] = []
    served = Served("small", CODEC, 256, MODEL.logit_fraction, "ab" * 32, slots=8)
    others = [Backend(second, None, ejected.append)]
    with serving(first, served, eject=ejected.append, others=others, **options) as url:
        yield url, ejected


def test_a_lost_device():
    """Requests of every kind are under way on both devices when one is gone: all texts are right, each as it was before."""
    chooser = random.Random(3)
    requests = [{**random_request(chooser), "max_tokens": 40} for _ in range(12)]
    (first, lost), (second, other) = opened(NGramDraft()), opened(NGramDraft())
    with two(first, second) as (url, ejected), ThreadPoolExecutor(12) as clients:
        lost.fail_at = lost.steps + 60
        came = list(clients.map(lambda request: answered(url, request), requests))
        assert came == [texts(request) for request in requests]
        assert [str(error).partition(";")[0] for error in ejected] == ["device must answer, not stay silent for 2 s"]
        assert json.loads(get(url, "/health"))["devices"] == 1
        assert "tritape_devices 1.0" in get(url, "/metrics")
        assert 60 <= lost.steps < 80 < other.steps
        other.fail_at = other.steps
        status, answer = post(url, **requests[0])
        assert (status, answer["error"]["type"]) == (503, "server_error")
        assert len(ejected) == 2


def test_the_idle_device_takes_the_next():
    """Two requests at a time on two devices: each has one of its own."""
    (first, one), (second, other) = opened(), opened()
    request = {"prompt": "ab", "max_tokens": 100, "temperature": 0, "n": 1, "seed": 0}
    with two(first, second) as (url, _), ThreadPoolExecutor(2) as clients:
        for _ in range(4):
            list(clients.map(lambda _: answered(url, request), range(2)))
    assert min(one.steps, other.steps) >= 300


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("fields", [{}, {"logprobs": 2}, {"n": 3}, {"stream": True}])
def test_devices_with_one_slot(fields: dict):
    """What had a lost device for itself is begun again on another, and nobody is told a piece twice."""
    first, second = CPUDevice(), CPUDevice()
    first.fail_at, body = 30, {"prompt": "Emma was", "max_tokens": 40, "temperature": 0.8, "seed": 5, **fields}

    def gone() -> dict[str, int]:
        if first.fail_at is not None and first.fail_at < 0:
            raise TritapeError(GONE)
        return {"crc_errors": 0}

    first.counters = gone  # type: ignore[method-assign]

    def asked(url: str) -> str:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse().read().decode()
        if not fields.get("stream"):
            return json.dumps(json.loads(answer)["choices"])
        events = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: {")]
        return "".join(json.loads(event)["choices"][0]["text"] for event in events)

    with serving(second, second.served) as url:
        expected = asked(url)
    ejected: list[TritapeError] = []
    with serving(first, first.served, eject=ejected.append, others=[Backend(second)]) as url:
        while not ejected:
            assert asked(url) == expected
    assert str(ejected[0]) == GONE
