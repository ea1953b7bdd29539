"""Test helpers: the CPU model as a device that a server offers, and that server on a socket of its own."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import uvicorn

from tritape.base.errors import TritapeError
from tritape.host.cpu import CPUModel
from tritape.host.server import Backend, Served, make_app
from tritape.model.arith import Ints
from tritape.model.checkpoint import load_checkpoint
from tritape.model.data import default_model_path
from tritape.model.formats import quantise_model
from tritape.model.quantised import QuantisedModel
from tritape.model.text.settings import Settings
from tritape.model.tokenizer import Tokenizer

GONE = "port X must answer, not be gone; connect it again"


class CPUDevice:
    """The embedded model as a device. `fail_at` tokens from now it breaks, as a cable that is pulled; `pause_s` a token makes it
    slow; `ran` counts tokens; `crc_errors` is what its counter says."""

    def __init__(self, eos_ids: Sequence[int] = (), settings: Settings | None = None) -> None:
        self.slots = None
        self.codec = Tokenizer.from_bytes(
            (default_model_path() / "tokenizer.json").read_bytes(), "small", None, settings, eos_ids
        )
        quantised = _quantised()
        self.model = CPUModel(quantised)
        self.served = Served("austen", self.codec, quantised.config.vocab_size, quantised.logit_fraction, "ab" * 32)
        self.ejected: list[TritapeError] = []
        self.recovered = 0
        self.fail_at: int | None = None
        self.alive = True
        self.pause_s = 0.0
        self.ran = self.crc_errors = 0
        self.entered = 0  # threads inside, of which there must be one at most
        self.settings = self.model.settings
        self._chosen: int | None = None
        self.reset()

    def reset(self) -> None:
        self._fed: list[int] = []
        self._chosen = None
        self.model.reset()

    def feed(self, tokens: Sequence[int]) -> int:
        self.entered += 1
        assert self.entered == 1, "one thread at a time"
        try:
            for token in tokens:
                if self.fail_at is not None:
                    self.fail_at -= 1
                    if self.fail_at < 0:
                        raise TritapeError(GONE)
                time.sleep(self.pause_s)
                self.ran += 1
                self._fed.append(token)
                self._chosen = self.model.feed([token])
        finally:
            self.entered -= 1
        assert self._chosen is not None
        return self._chosen

    def logits(self, tokens: Sequence[int]) -> Ints:
        self.feed(tokens)
        return self.model.logits()

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        token = self.feed(prompt)
        for number in range(count):
            if number:
                token = self.feed([token])
            yield token

    def save_state(self) -> bytes:
        return json.dumps(self._fed).encode()

    def restore_state(self, state: bytes) -> None:
        try:
            tokens = json.loads(state)
        except ValueError:
            raise TritapeError("state must be what save_state gave, not other bytes; save it again") from None
        self.reset()
        for token in tokens:
            self.model.feed([token])
            self._fed.append(token)

    def counters(self) -> dict[str, int]:
        if not self.alive:
            raise TritapeError(GONE)
        return {"crc_errors": self.crc_errors, "first_bad_section": 3}

    def recover(self) -> None:
        self.recovered += 1
        self.crc_errors = 0

    def expected(self, prompt: str, count: int, temperature: float = 0.0, seed: int = 0) -> str:
        """What the model says behind a prompt."""
        ids = self.codec.encode(prompt)
        self.model.settings(temperature, seed)
        self.model.reset()
        stream = self.codec.stream(ids)
        return "".join(map(stream.push, self.model.generate_tokens(ids, count))) + stream.finish()


@cache
def _quantised() -> QuantisedModel:
    return quantise_model(load_checkpoint(default_model_path()))


@contextmanager
def serving(
    device: Any, served: Served, recover: Any = None, eject: Any = None, others: Sequence[Backend] = (), **options: Any
) -> Iterator[str]:
    """The address of a server in front of a device, and of others."""
    listener = socket.create_server(("127.0.0.1", 0))
    made = make_app([Backend(device, recover, eject), *others], served, **options)
    server = uvicorn.Server(uvicorn.Config(made, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
