"""The server in front of a device with two slots, simulated: requests go on together, each as if it were alone."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from served_device import serving
from small_board import TWO_SLOTS, golden, small_model

from tritape.host.device import Device
from tritape.host.protocol import inverse_temperature
from tritape.host.server import Served
from tritape.model.tape.assembler import image
from tritape.model.tokenizer import ByteTokenizer
from tritape.sim.generate import RETRY_S, Simulation

pytestmark = [pytest.mark.slow, pytest.mark.optimised]
CONFIG = TWO_SLOTS
MODEL, CODEC = small_model(), ByteTokenizer()
PROMPTS = ("Emma was", "Mr. Darcy", "It", "The carriage stopped")


@dataclass(frozen=True)
class Running:
    """A server, and the device behind it: look at its counters between requests only."""

    device: Device
    url: str

    def post(self, path: str = "/v1/completions", **body: object) -> dict:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())

    def busy(self) -> float:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return float(next(line for line in lines if line.startswith("tritape_slots_busy ")).split()[1])

    def together(self, *bodies: dict) -> list[dict]:
        """The answers to requests that are sent at once."""
        answers: dict[int, dict] = {}
        threads = [
            threading.Thread(target=lambda n=n, body=body: answers.update({n: self.post(**body)}))
            for n, body in enumerate(bodies)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [answers[n] for n in range(len(bodies))]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with Simulation(CONFIG) as simulation:
        device = Device(simulation, retry_s=RETRY_S)
        device.load_tape(image(MODEL, CONFIG.groups, CONFIG.max_rows, CONFIG.engines))
        served = Served("small", CODEC, 256, MODEL.logit_fraction, "ab" * 32, slots=2)
        with serving(device, served) as url:
            yield Running(device, url)


def text(prompt: str, count: int, temperature: float = 0.0, seed: int = 0) -> str:
    inverse = inverse_temperature(temperature, MODEL.logit_fraction)
    return CODEC.decode(golden(MODEL, CODEC.encode(prompt), count, inverse, seed))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_requests_share_the_device(running):
    """Four at once, greedy and sampled, of different lengths, on two slots: every text is its own, in half the steps."""
    counts, temperatures = (100, 40, 60, 80), (0.0, 0.9, 0.0, 0.7)
    before = running.device.counters()["tokens"]
    answers = running.together(
        *(
            {"prompt": prompt, "max_tokens": count, "temperature": temperature, "seed": 7}
            for prompt, count, temperature in zip(PROMPTS, counts, temperatures, strict=True)
        )
    )
    steps = running.device.counters()["tokens"] - before
    for prompt, count, temperature, answer in zip(PROMPTS, counts, temperatures, answers, strict=True):
        assert answer["choices"][0]["text"] == text(prompt, count, temperature, 7)
        assert answer["usage"]["completion_tokens"] == count
    alone = sum(len(prompt) - 1 + count for prompt, count in zip(PROMPTS, counts, strict=True))
    assert steps < 0.75 * alone


def test_choices_share_the_device(running):
    """`n` and a list of prompts go on together; a stop string ends one of them early."""
    whole = text("It", 60)
    before = running.device.counters()["tokens"]
    answer = running.post(prompt=["It", "Mr. Darcy"], n=2, max_tokens=60, temperature=0, stop=whole[10:14])
    steps = running.device.counters()["tokens"] - before
    texts = [choice["text"] for choice in answer["choices"]]
    stop = whole[10:14]
    other = text("Mr. Darcy", 60)
    assert texts == [whole[: whole.index(stop)]] * 2 + [other.split(stop)[0]] * 2
    assert steps < 150


def test_one_gives_up_and_the_other_goes_on(running):
    """The slot is free within 16 steps, and the other's text is not touched."""
    body = json.dumps({"prompt": "Emma was", "max_tokens": 4000, "temperature": 0}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    host, port = urlsplit(running.url).netloc.split(":")
    answers: list[dict] = []
    other = threading.Thread(
        target=lambda: answers.append(running.post(prompt="It", max_tokens=400, temperature=0.9, seed=3))
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        until(lambda: running.busy() == 1)
        other.start()
        until(lambda: running.busy() == 2)
    until(lambda: running.busy() <= 1)
    late = running.post(prompt="Mr. Darcy", max_tokens=20, temperature=0)
    assert late["choices"][0]["text"] == text("Mr. Darcy", 20)
    other.join()
    assert answers[0]["choices"][0]["text"] == text("It", 400, 0.9, 3)
    until(lambda: running.busy() == 0)


def test_who_wants_the_device_alone_waits_for_it(running):
    """Log-probabilities between two that share: the order of arrival is kept, and all texts are right."""
    plain = {"max_tokens": 60, "temperature": 0.9, "seed": 5}
    answers = running.together(
        {"prompt": "Emma was", **plain},
        {"prompt": "It", **plain, "logprobs": 1, "echo": True},
        {"prompt": "Mr. Darcy", **plain},
    )
    expected = [text("Emma was", 60, 0.9, 5), "It" + text("It", 60, 0.9, 5), text("Mr. Darcy", 60, 0.9, 5)]
    assert [answer["choices"][0]["text"] for answer in answers] == expected
