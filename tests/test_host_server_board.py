"""`tritape serve` as a process in front of a virtual board: every kind of request over UART pins, against the golden model."""

from __future__ import annotations

import http.client
import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openai
import pytest
from small_board import SMALL, golden

from tritape.base.errors import TritapeError
from tritape.cli.serve import listener
from tritape.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tokenizer import ByteTokenizer
from tritape.sim.virtual_board import VirtualBoard

pytestmark = [pytest.mark.slow, pytest.mark.optimised]
PROMPT = "Emma was"
CODEC = ByteTokenizer()
COMMAND = [sys.executable, "-c", "import tritape.cli; tritape.cli.main()", "serve"]


@dataclass(frozen=True)
class Running:
    """The command under way: its port over HTTP, and its model."""

    http_port: int
    model: QuantisedModel

    def text(self, prompt: str, count: int) -> str:
        return CODEC.decode(golden(self.model, CODEC.encode(prompt), count))

    def post(self, path: str, body: dict) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def turn(self, text: str, conversation: dict | None, count: int) -> tuple[str, dict]:
        body = {"text": text, "conversation": conversation, "max_tokens": count, "temperature": 0}
        status, answer = self.post("/conversation", body)
        assert status == 200, answer
        events = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: {")]
        return "".join(event["text"] for event in events), events[-1]["conversation"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("model") / "small"
    save_checkpoint(random_checkpoint(ModelConfig(256, 20, 2, 24), seed=3), made)
    return made


@pytest.fixture(scope="module")
def running(folder) -> Iterator[Running]:
    with VirtualBoard(SMALL) as virtual:
        process = subprocess.Popen(
            [*COMMAND, "--port", virtual.port, "--model", str(folder), "--http-port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127.0.0.1:(\d+)/v1 serves small, http://127.0.0.1:\d+ is a page; Ctrl-C ends", said)
        assert found, said + process.stderr.read()
        yield Running(int(found[1]), quantise_model(load_checkpoint(folder)))
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGINT, 130), rest
    assert "Traceback" not in rest


@pytest.fixture
def client(running) -> Iterator[openai.OpenAI]:
    base = f"http://127.0.0.1:{running.http_port}/v1"
    with openai.OpenAI(base_url=base, api_key="none", timeout=60, max_retries=8) as made:
        yield made


def test_text(client, running):
    """Greedy and sampled, as the golden model says."""
    for temperature, inverse, seed in ((0, 0, 0), (0.9, round(2.0 ** (23 - running.model.logit_fraction) / 0.9), 11)):
        stream = client.completions.create(
            model="small", prompt=PROMPT, max_tokens=20, temperature=temperature, seed=seed, stream=True
        )
        text = "".join(event.choices[0].text for event in stream)
        assert text == CODEC.decode(golden(running.model, CODEC.encode(PROMPT), 20, inverse, seed))


def test_a_chat(client, running):
    answer = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Hm"}], max_tokens=12, temperature=0
    )
    assert answer.choices[0].message.content == running.text("User: Hm\nAssistant:", 12)


def test_logprobs_over_the_wire(client, running):
    """Echo, logits by the device's own path, and the host's sampler in step with the device's generator."""
    inverse, ids = round(2.0 ** (23 - running.model.logit_fraction) / 0.9), CODEC.encode(PROMPT)
    common = {"model": "small", "prompt": ids, "max_tokens": 6, "temperature": 0.9, "seed": 11, "logprobs": 2}
    expected = golden(running.model, ids, 6, inverse, 11)
    choice = client.completions.create(echo=True, **common).choices[0]
    assert choice.text == PROMPT + CODEC.decode(expected)
    assert client.completions.create(**common).choices[0].text == CODEC.decode(expected)
    golden_model = IntegerModel(running.model)
    for place, token in enumerate([*ids, *expected][:-1]):
        logits = golden_model.step(token) / 2.0**running.model.logit_fraction
        wanted = logits[[*ids, *expected][place + 1]] - math.log(np.exp(logits).sum())
        assert choice.logprobs.token_logprobs[place + 1] == pytest.approx(wanted, abs=1e-9)


def test_a_conversation_travels(running):
    """Saved by one request and gone on with by another, other requests between them: as one conversation."""
    first, saved = running.turn("one two", None, 20)
    running.turn("something else", None, 5)
    second, whole = running.turn(" three", saved, 10)
    said = golden(running.model, CODEC.encode("one two"), 20)
    assert first == CODEC.decode(said)
    more = golden(running.model, [*CODEC.encode("one two"), *said, *CODEC.encode(" three")], 10)
    assert second == CODEC.decode(more)
    assert whole["text"] == f"one two{first} three{second}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "AAAA"}, "state must be what save_state gave, not other bytes"),
        ({"pending": [256]}, "conversation must be a file that this server or"),
        ({"model": "00" * 32}, "conversation must be of model"),
        ({"format": 7}, "format of the conversation must be 1, not 7"),
    ],
)
def test_a_wrong_conversation_is_the_clients_fault(running, change, message):
    _, saved = running.turn("one", None, 2)
    status, answer = running.post("/conversation", {"text": " two", "conversation": {**saved, **change}})
    assert status == 400
    error = json.loads(answer)["error"]
    assert error["param"] == "conversation"
    assert message in error["message"]


@pytest.mark.parametrize("fields", [{"prompt": [7] * 10}, {"prompt": [7] * 4000}])
def test_a_client_that_gives_up(client, running, fields):
    """In an answer and in a prompt of minutes: the next one is served soon."""
    body = json.dumps({**fields, "max_tokens": 4000, "temperature": 0}).encode()
    with socket.create_connection(("127.0.0.1", running.http_port)) as connection:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        time.sleep(1)
    start = time.monotonic()
    answer = client.completions.create(model="small", prompt=PROMPT, max_tokens=1, temperature=0)
    assert answer.choices[0].text == running.text(PROMPT, 1)
    assert time.monotonic() - start < 5


def test_health_while_the_board_works(client, running):
    """The serial port is waited for on a thread of its own."""
    work = threading.Thread(
        target=client.completions.create, kwargs={"model": "small", "prompt": PROMPT, "max_tokens": 200}
    )
    work.start()
    longest = 0.0
    while work.is_alive():
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", running.http_port, timeout=10)
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read()) == {
            "status": "ok",
            "model": "small",
            "slots": 1,
            "sampler": True,
            "devices": 1,
        }
        longest = max(longest, time.monotonic() - start)
    assert longest < 1


def test_the_port_is_taken_while_the_tape_is_loaded():
    """From the beginning, and not by whoever is ready first."""
    with listener("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(TritapeError, match=f"port {number} of 127.0.0.1 must be free, not taken"):
            listener("127.0.0.1", number)
    listener("127.0.0.1", number).close()


def test_a_port_in_use_is_said_first(folder):
    """Before the device is looked for, and so before any tape is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--port", "/dev/ttyNONE", "--model", str(folder), "--http-port", str(number)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"port {number} of 127.0.0.1 must be free, not taken" in " ".join(done.stderr.split())
    assert "choose another with --http-port" in " ".join(done.stderr.split())
