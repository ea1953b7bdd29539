"""The server through the official client, over a real socket, in front of the CPU model."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np
import openai
import pytest
from served_device import GONE, CPUDevice, serving

PROMPT = "It is a truth universally acknowledged, that"


@pytest.fixture(scope="module")
def served() -> CPUDevice:
    return CPUDevice()


@pytest.fixture(scope="module")
def client(served: CPUDevice) -> Iterator[openai.OpenAI]:
    with (
        serving(served, served.served, recover=served.recover, eject=served.ejected.append) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as made,
    ):
        yield made


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
    before = served.ran
    answer = client.completions.create(
        model="austen", prompt=PROMPT, max_tokens=2000, temperature=0, stop=["never there", stop], stream=stream
    )
    events = list(answer) if stream else [answer]
    assert "".join(event.choices[0].text for event in events) == whole[: whole.index(stop)]
    assert events[-1].choices[0].finish_reason == "stop"
    assert served.ran - before < 100


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
    before = served.ran
    with client.completions.create(
        model="austen", prompt=PROMPT, max_tokens=4096, temperature=0, stream=True
    ) as stream:
        next(iter(stream))
    answer = client.completions.create(model="austen", prompt=PROMPT, max_tokens=4, temperature=0)
    assert answer.choices[0].text == served.expected(PROMPT, 4)
    assert served.ran - before < 4096


@pytest.mark.parametrize("logprobs", [None, 2])
def test_lists_of_prompts(client, served, logprobs):
    """Texts and token ids, as LangChain and lm-evaluation-harness send them: choices in the order of the prompts, n of each."""
    texts = ["Emma was", "The carriage", PROMPT]
    ids = [served.codec.encode(text) for text in texts]
    common = {"model": "austen", "max_tokens": 12, "temperature": 0.8, "seed": 5, "n": 2, "logprobs": logprobs}
    answer = client.completions.create(prompt=texts, **common)
    assert [choice.index for choice in answer.choices] == list(range(6))
    expected = [served.expected(texts[index // 2], 12, 0.8, 5 + index) for index in range(6)]
    assert [choice.text for choice in answer.choices] == expected
    assert answer.usage.prompt_tokens == sum(map(len, ids))
    assert answer.usage.completion_tokens == 6 * 12
    again = client.completions.create(prompt=ids, **common)
    assert [choice.text for choice in again.choices] == expected
    stream = list(client.completions.create(prompt=ids, stream=True, **common))
    streamed = ["".join(e.choices[0].text for e in stream if e.choices[0].index == index) for index in range(6)]
    assert streamed == expected
    assert sum(event.choices[0].finish_reason == "length" for event in stream) == 6


def test_texts_differ_without_seed(client):
    """In one answer and from request to request; a seed repeats them, whatever its size."""
    common = {"model": "austen", "prompt": PROMPT, "max_tokens": 24, "temperature": 1.0}
    texts = {client.completions.create(**common).choices[0].text for _ in range(3)}
    texts |= {choice.text for choice in client.completions.create(n=3, **common).choices}
    assert len(texts) == 6
    assert len({client.completions.create(seed=-(1 << 40) - 7, **common).choices[0].text for _ in range(3)}) == 1, (
        "a seed of 64 bits is a seed too"
    )


def test_nulls_are_defaults(client, served):
    """Clients send null for what their users did not set."""
    names = (
        "seed n stop stream stream_options logprobs echo best_of suffix user top_p presence_penalty frequency_penalty "
        "logit_bias"
    )
    answer = client.completions.create(
        model="austen", prompt=PROMPT, max_tokens=8, temperature=0, extra_body=dict.fromkeys(names.split())
    )
    assert answer.choices[0].text == served.expected(PROMPT, 8)


def test_logprobs_are_the_models(client, served):
    """Of an echoed prompt and its continuation: the log-softmax of the integer logits, in the order of the tokens."""
    ids = served.codec.encode(PROMPT)
    answer = client.completions.create(
        model="austen", prompt=PROMPT, max_tokens=6, temperature=0.7, seed=3, logprobs=4, echo=True
    )
    choice = answer.choices[0]
    assert choice.text == PROMPT + served.expected(PROMPT, 6, 0.7, 3)
    given = choice.logprobs
    assert len(given.tokens) == len(given.token_logprobs) == len(given.top_logprobs) == len(ids) + 6
    assert given.token_logprobs[0] is None
    assert given.top_logprobs[0] is None
    served.model.settings(0.7, 3)
    served.model.reset()
    generated = list(served.model.generate_tokens(ids, 6))
    served.model.reset()
    logits = np.zeros(0)
    for place, token in enumerate([*ids, *generated]):
        if place:
            scaled = logits / 2.0**served.served.logit_fraction
            expected = scaled - math.log(sum(math.exp(value) for value in scaled))
            assert given.token_logprobs[place] == pytest.approx(expected[token], abs=1e-9)
            assert max(given.top_logprobs[place].values()) == pytest.approx(max(expected), abs=1e-9)
            assert 4 <= len(given.top_logprobs[place]) <= 5
            assert given.top_logprobs[place][given.tokens[place]] == given.token_logprobs[place]
        served.model.feed([token])
        logits = served.model.logits()
    for name, offset in zip(given.tokens, given.text_offset, strict=True):
        assert choice.text[offset:].startswith(name) or name.startswith("token_id:")


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_end_with_the_text(client, served, stream):
    """Behind a stop string no token is reported, and what is reported adds up to the text."""
    whole = served.expected(PROMPT, 60)
    stop = whole[20:28]
    made = client.completions.create(
        model="austen", prompt=PROMPT, max_tokens=200, temperature=0, stop=stop, logprobs=0, stream=stream
    )
    events = list(made) if stream else [made]
    names = [name for e in events if e.choices[0].logprobs for name in e.choices[0].logprobs.tokens]
    text = "".join(event.choices[0].text for event in events)
    assert text == whole[:20]
    assert "".join(names).startswith(text)
    assert len("".join(names[:-1])) < len(text) <= len("".join(names))


def test_echo_without_new_tokens(client, served):
    """`max_tokens` 0, as evaluation asks for it: the prompt's log-probabilities alone."""
    ids = served.codec.encode(PROMPT)
    before = served.ran
    answer = client.completions.create(model="austen", prompt=ids, max_tokens=0, echo=True, logprobs=1)
    assert answer.choices[0].text == PROMPT
    assert len(answer.choices[0].logprobs.token_logprobs) == len(ids)
    assert answer.usage.completion_tokens == 0
    assert served.ran - before == len(ids) - 1


def test_top_p_bias_and_penalties(client, served):
    """Each does what its name says."""
    common = {"model": "austen", "prompt": PROMPT, "max_tokens": 24}
    greedy = served.expected(PROMPT, 24)
    narrow = client.completions.create(temperature=1, top_p=1e-9, **common)
    assert narrow.choices[0].text == greedy, "the likeliest token alone"
    sampled = client.completions.create(temperature=0.9, seed=4, top_p=1, logprobs=0, **common)
    assert sampled.choices[0].text == served.expected(PROMPT, 24, 0.9, 4), "the host's sampler is the device's"
    token = served.codec.encode(greedy)[0]
    banned = client.completions.create(temperature=0, logit_bias={str(token): -100}, logprobs=0, **common)
    assert served.codec.decode([token]) not in banned.choices[0].logprobs.tokens
    forced = client.completions.create(temperature=0, logit_bias={str(token): 100}, **common)
    assert forced.choices[0].text == served.codec.decode([token]) * 24
    both = {"temperature": 0, "logit_bias": {str(token): 100}, **common}
    for penalty in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        plain = client.completions.create(**{**common, "temperature": 0, "max_tokens": 200}, logprobs=0)
        less = client.completions.create(
            **{**common, "temperature": 0, "max_tokens": 200}, logprobs=0, extra_body=penalty
        )
        assert len(set(less.choices[0].logprobs.tokens)) > len(set(plain.choices[0].logprobs.tokens)), penalty
    assert client.completions.create(**both, frequency_penalty=2.0).choices[0].text == forced.choices[0].text


def test_best_of(client, served):
    """The choices with the largest mean log-probability, best first; all tokens count."""
    common = {"model": "austen", "prompt": PROMPT, "max_tokens": 10, "temperature": 1.0, "seed": 9}
    every = client.completions.create(n=6, logprobs=0, **common)

    def mean(choice) -> float:
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    ranked = [choice.text for choice in sorted(every.choices, key=mean, reverse=True)]
    best = client.completions.create(n=2, best_of=6, **common)
    assert [choice.text for choice in best.choices] == ranked[:2]
    assert best.choices[0].logprobs is None
    assert best.usage.completion_tokens == 60


def test_usage_in_a_stream(client, served):
    common = {"model": "austen", "prompt": PROMPT, "max_tokens": 5, "temperature": 0, "stream": True}
    *events, last = client.completions.create(stream_options={"include_usage": True}, **common)
    assert last.choices == []
    assert last.usage.completion_tokens == 5
    assert last.usage.prompt_tokens == len(served.codec.encode(PROMPT))
    assert all(event.usage is None for event in events)
    assert all(event.choices for event in client.completions.create(**common))


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"prompt": ""}, "prompt", "prompt must have at least one token, not none"),
        ({"prompt": [512]}, "prompt", "prompt must have tokens from 0 to 511"),
        ({"prompt": ["Emma", ""]}, "prompt", "prompt must have at least one token, not none"),
        ({"prompt": []}, "prompt", "prompt must be a text, token ids"),
        ({"prompt": [[1], 2.5]}, "prompt", "prompt must be a text, token ids, or at most 256 of those"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens must be at least 1 without echo, not 0"),
        ({"max_tokens": 4097}, "max_tokens", "max_tokens: Input should be less than or equal to 4096"),
        ({"max_tokens": True}, "max_tokens", "max_tokens: Input should be a valid integer"),
        ({"n": 21}, "n", "n: Input should be less than or equal to 20"),
        ({"temperature": 1e-9}, "temperature", "temperature must be 0 or from"),
        ({"top_p": 0}, "top_p", "top_p: Input should be greater than 0"),
        ({"presence_penalty": 3}, "presence_penalty", "presence_penalty: Input should be less than or equal to 2"),
        ({"logit_bias": {"512": 1}}, "logit_bias", "logit_bias must name tokens from 0 to 511"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "logit_bias.1: Input should be less than or equal to 100"),
        ({"suffix": "the end"}, "suffix", "suffix must be empty, not text"),
        ({"best_of": 1, "n": 2}, "best_of", "best_of must be at least n = 2, not 1"),
        ({"best_of": 3, "stream": True}, "best_of", "best_of must be n = 1 in a stream, not 3"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream_options must come with stream: true"),
        ({"logprobs": 21}, "logprobs", "logprobs: Input should be less than or equal to 20"),
        ({"stop": ""}, "stop", "stop.0: String should have at least 1 character"),
        ({"extra_body": {"top_k": 5}}, "top_k", "top_k must be left out: this server does not know it"),
    ],
)
def test_wrong_requests(client, change, param, message):
    """Nothing is ignored: what is not obeyed is refused by its name."""
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.completions.create(**{"model": "austen", "prompt": PROMPT, **change})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_another_model(client):
    with pytest.raises(openai.NotFoundError, match="model must be austen, not 'gpt-4'"):
        client.completions.create(model="gpt-4", prompt=PROMPT)
    with pytest.raises(openai.NotFoundError, match="model must be austen, not 'gpt-4'"):
        client.models.retrieve("gpt-4")
    assert client.models.retrieve("austen").owned_by == "tritape"


def test_a_device_that_goes_away(client, served):
    """503, and the owner hears of it; a device that is still there after an error stays."""
    served.fail_at, served.alive = 0, False
    with pytest.raises(openai.InternalServerError, match="port X must answer, not be gone") as caught:
        client.completions.create(model="austen", prompt=PROMPT)
    assert caught.value.status_code == 503
    assert caught.value.type == "server_error"
    served.fail_at, served.alive = 20, True
    with pytest.raises(openai.APIError, match="port X must answer, not be gone"):
        list(client.completions.create(model="austen", prompt=PROMPT, max_tokens=40, temperature=0, stream=True))
    assert [str(error) for error in served.ejected] == [GONE]
    assert served.recovered == 1
    served.fail_at = None
    answer = client.completions.create(model="austen", prompt=PROMPT, max_tokens=2, temperature=0)
    assert answer.choices[0].text == served.expected(PROMPT, 2)


def test_a_damaged_tape(client, served):
    """A section with a wrong CRC-32 while a text was made: the text is not the model's, and is not given away as such."""
    pausing = served.pause_s
    served.pause_s = 0.02
    thread = threading.Timer(0.1, lambda: setattr(served, "crc_errors", served.crc_errors + 2))
    thread.start()
    try:
        with pytest.raises(
            openai.InternalServerError, match="CRC-32 of every section must be right, not wrong 2 times"
        ):
            client.completions.create(model="austen", prompt=PROMPT, max_tokens=20)
    finally:
        served.pause_s = pausing
    assert served.recovered == 2, "the tape was loaded again"
    assert client.completions.create(model="austen", prompt=PROMPT, max_tokens=2).choices[0].text
