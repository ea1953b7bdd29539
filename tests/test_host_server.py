"""The completions server through the official client, over a real socket, in front of the CPU model."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import openai
import pytest
import uvicorn

from tritape.base.errors import TritapeError
from tritape.host.cpu import CPUModel
from tritape.host.server import make_app
from tritape.model.checkpoint import load_checkpoint
from tritape.model.data import default_model_path
from tritape.model.formats import quantise_model
from tritape.model.tokenizer import TextCodec, load_tokenizer

PROMPT = "It is a truth universally acknowledged, that"


class Served:
    """The CPU model as a device; `fail_at` tokens from now it breaks, as a cable that is pulled."""

    def __init__(self) -> None:
        checkpoint = load_checkpoint(default_model_path())
        self.codec: TextCodec = load_tokenizer(checkpoint)
        quantised = quantise_model(checkpoint)
        self.logit_fraction = quantised.logit_fraction
        self.model = CPUModel(quantised)
        self.ejected: list[int] = []
        self.settings, self.reset = self.model.settings, self.model.reset
        self.fail_at: int | None = None
        self.generated = 0

    def generate_tokens(self, prompt, count) -> Iterator[int]:
        for token in self.model.generate_tokens(prompt, count):
            if self.fail_at is not None:
                self.fail_at -= 1
                if self.fail_at < 0:
                    raise TritapeError("port X must answer, not be gone; connect it again")
            self.generated += 1
            yield token

    def expected(self, prompt: str, count: int, temperature: float = 0.0, seed: int = 0) -> str:
        self.model.settings(temperature, seed)
        self.model.reset()
        return self.codec.decode(list(self.model.generate_tokens(self.codec.encode(prompt), count)))


@pytest.fixture(scope="module")
def served() -> Served:
    return Served()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    listener = socket.create_server(("127.0.0.1", 0))
    app = make_app(
        served,
        served.codec,
        "austen",
        vocab_size=1024,
        logit_fraction=served.logit_fraction,
        eject=lambda: served.ejected.append(served.generated),
    )
    config = uvicorn.Config(app, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=30) as made:
        yield made
    server.should_exit = True
    thread.join(10)
    listener.close()


def test_models(client):
    assert [model.id for model in client.models.list()] == ["austen"]


@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 0), (0.8, 7)])
def test_completion(client, served, temperature, seed):
    answer = client.completions.create(model="austen", prompt=PROMPT, max_tokens=40, temperature=temperature, seed=seed)
    assert answer.choices[0].text == served.expected(PROMPT, 40, temperature, seed)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 40
    assert answer.usage.prompt_tokens == len(served.codec.encode(PROMPT))
    assert answer.object == "text_completion"


def test_streaming_adds_up(client, served):
    events = list(client.completions.create(model="austen", prompt=PROMPT, max_tokens=40, temperature=0, stream=True))
    assert "".join(event.choices[0].text for event in events) == served.expected(PROMPT, 40)
    assert len(events) > 10
    assert [event.choices[0].finish_reason for event in events] == [None] * (len(events) - 1) + ["length"]


def test_token_ids_and_echo(client, served):
    ids = served.codec.encode(PROMPT)
    answer = client.completions.create(model="austen", prompt=ids, max_tokens=8, temperature=0, echo=True)
    assert answer.choices[0].text == PROMPT + served.expected(PROMPT, 8)


@pytest.mark.parametrize("stream", [False, True])
def test_stop_string_across_tokens(client, served, stream):
    """The text ends before the stop string, also where that spans pieces, and generation ends soon after."""
    whole = served.expected(PROMPT, 60)
    stop = whole[20:28]
    before = served.generated
    answer = client.completions.create(
        model="austen", prompt=PROMPT, max_tokens=2000, temperature=0, stop=["never there", stop], stream=stream
    )
    events = list(answer) if stream else [answer]
    assert "".join(event.choices[0].text for event in events) == whole[: whole.index(stop)]
    assert events[-1].choices[0].finish_reason == "stop"
    assert served.generated - before < 100


def test_two_clients_take_turns(client, served):
    texts = {}

    def ask(seed: int) -> None:
        answer = client.completions.create(model="austen", prompt=PROMPT, max_tokens=64, temperature=0.9, seed=seed)
        texts[seed] = answer.choices[0].text

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {seed: served.expected(PROMPT, 64, 0.9, seed) for seed in range(1, 5)}


def test_a_client_that_hangs_up_frees_the_device(client, served):
    before = served.generated
    with client.completions.create(
        model="austen", prompt=PROMPT, max_tokens=4096, temperature=0, stream=True
    ) as stream:
        next(iter(stream))
    answer = client.completions.create(model="austen", prompt=PROMPT, max_tokens=4, temperature=0)
    assert answer.choices[0].text == served.expected(PROMPT, 4)
    assert served.generated - before < 4096


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "prompt must have tokens from 0 to 1023"),
        ({"prompt": [1024]}, "prompt must have tokens from 0 to 1023"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"n": 2}, "n: Input should be less than or equal to 1"),
        ({"temperature": 1e-9}, "temperature must be 0 or from"),
        ({"prompt": ["two", "texts"]}, "prompt: "),
    ],
)
def test_wrong_requests(client, change, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.completions.create(**{"model": "austen", "prompt": PROMPT, **change})


def test_another_model(client):
    with pytest.raises(openai.NotFoundError, match="model must be austen, not 'gpt-4'"):
        client.completions.create(model="gpt-4", prompt=PROMPT)


def test_a_device_that_goes_away(client, served):
    served.fail_at = 0
    with pytest.raises(openai.InternalServerError, match="port X must answer, not be gone"):
        client.completions.create(model="austen", prompt=PROMPT)
    assert len(served.ejected) == 1
    served.fail_at = 20
    with pytest.raises(openai.APIError, match="port X must answer, not be gone"):
        list(client.completions.create(model="austen", prompt=PROMPT, max_tokens=40, stream=True))
    assert len(served.ejected) == 2
    served.fail_at = None
    assert client.completions.create(model="austen", prompt=PROMPT, max_tokens=2, temperature=0).choices[0].text
