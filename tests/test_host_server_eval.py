"""lm-evaluation-harness in front of the server: its requests as they are sent, and its own client where it is installed.

The client (`pip install 'lm_eval[api]' transformers`, 760 MB) is no part of the test extra.
"""

from __future__ import annotations

import json
import math
import shutil
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from served_device import CPUDevice, serving

from tritape.model.data import default_model_path

CONTEXT, CONTINUATION = "It is a truth universally", " acknowledged, that"


@pytest.fixture(scope="module")
def device() -> CPUDevice:
    return CPUDevice()


@pytest.fixture(scope="module")
def url(device: CPUDevice) -> Iterator[str]:
    with serving(device, device.served) as address:
        yield address


def post(address: str, body: object) -> dict:
    data = json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def score(device: CPUDevice, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Sum of the log-probabilities of a continuation, and whether it is greedy: from the integer logits."""
    device.model.reset()
    device.model.feed(context)
    total, greedy = 0.0, True
    for token in continuation:
        logits = device.model.logits()
        scaled = logits / 2.0**device.served.logit_fraction
        total += scaled[token] - math.log(np.exp(scaled).sum())
        greedy &= bool(logits[token] == logits.max())
        device.model.feed([token])
    return total, greedy


def parse(choice: dict, context: int) -> tuple[float, bool]:
    """As `LocalCompletionsAPI.parse_logprobs` of lm_eval 0.4.13 reads an answer."""
    logprobs = choice["logprobs"]["token_logprobs"][context:-1]
    top = choice["logprobs"]["top_logprobs"][context:-1]
    return sum(logprobs), all(one == max(best.values()) for one, best in zip(logprobs, top, strict=True))


def test_its_loglikelihood_request(url, device):
    """`prompt` as lists of ids, several at a time: `echo`, `logprobs` 1, `max_tokens` 1, whose token is the last."""
    encode = device.codec.encode
    pairs = [(encode(CONTEXT), encode(CONTINUATION)), (encode("Emma"), encode(" was very happy"))]
    greedy = device.expected("Emma", 12)
    pairs.append((encode("Emma"), encode(greedy)[:6]))
    body = {
        "model": "austen", "prompt": [context + rest for context, rest in pairs], "temperature": 0, "max_tokens": 1,
        "logprobs": 1, "seed": 1234, "echo": True,
    }  # fmt: skip
    choices = sorted(post(f"{url}/v1/completions", body)["choices"], key=lambda choice: choice["index"])
    for (context, rest), choice in zip(pairs, choices, strict=True):
        got, expected = parse(choice, len(context)), score(device, context, rest)
        assert got[0] == pytest.approx(expected[0], abs=1e-6)
        assert got[1] == expected[1]
    assert parse(choices[2], len(pairs[2][0]))[1], "its own greedy text"


def test_a_last_token_that_ends_the_text_counts(device):
    """The one new token is an end token: it is the last of the list all the same, or a score would lose its last token."""
    ids = device.codec.encode(CONTEXT)
    device.model.settings()
    device.model.reset()
    end = device.model.feed(ids)
    ending = CPUDevice(eos_ids=[end])
    with serving(ending, ending.served) as url:
        body = {"prompt": [ids], "temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": True}
        (choice,) = post(f"{url}/v1/completions", body)["choices"]
    assert len(choice["logprobs"]["token_logprobs"]) == len(ids) + 1
    assert choice["text"] == CONTEXT
    assert choice["finish_reason"] == "stop"


def test_its_generation_request(url, device):
    """`generate_until`: greedy, with stop strings."""
    whole = device.expected(CONTEXT, 32)
    stop = whole[10:14]
    body = {
        "prompt": [device.codec.encode(CONTEXT)], "model": "austen", "max_tokens": 32, "temperature": 0,
        "stop": ["\n\n", stop], "seed": 1234,
    }  # fmt: skip
    assert post(f"{url}/v1/completions", body)["choices"][0]["text"] == whole[: whole.index(stop)]


@pytest.mark.long  # its package brings 763 MB; the requests that it sends are those of the tests above
def test_its_client(url, device, tmp_path):
    """The harness' own `local-completions`: scores, greedy flags and texts equal the model's."""
    pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install 'lm_eval[api]' transformers")
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    shutil.copy(default_model_path() / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    client = LocalCompletionsAPI(
        base_url=f"{url}/v1/completions", model="austen", tokenizer=str(tmp_path), num_concurrent=2, batch_size=2
    )
    pairs = [(CONTEXT, CONTINUATION), ("Emma", " was very happy"), ("Emma", device.expected("Emma", 8))]
    asked = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    encode = device.codec.encode
    for (context, rest), (got, greedy) in zip(pairs, client.loglikelihood(asked), strict=True):
        whole = encode(context + rest)
        expected = score(device, whole[: len(encode(context))], whole[len(encode(context)) :])
        assert got == pytest.approx(expected[0], abs=1e-6)
        assert greedy == expected[1]
    until = Instance("generate_until", {}, (CONTEXT, {"until": ["\n\n"], "max_gen_toks": 16}), 0)
    assert client.generate_until([until]) == [device.expected(CONTEXT, 16)]
