"""Chats through the official client: the plain template of base models, the tokenizer's own, streams, what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
import tokenizers
import transformers
from served_device import CPUDevice, serving

from tritape.base.errors import TritapeError
from tritape.host.server.errors import Refused
from tritape.host.server.template import ChatTemplate

MESSAGES = [
    {"role": "system", "content": "A talk at Longbourn."},
    {"role": "user", "content": [{"type": "text", "text": "Who is "}, {"type": "text", "text": "Emma?"}]},
    {"role": "assistant", "content": "A young lady."},
    {"role": "user", "content": "And Mr. Knightley?"},
]
PLAIN = "A talk at Longbourn.\nUser: Who is Emma?\nAssistant: A young lady.\nUser: And Mr. Knightley?\nAssistant:"
TEMPLATE = """{{ bos_token }}{% for message in messages %}
    {% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}
<{{ message['role'] }}>{{ message['content'] }}
{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"""


@pytest.fixture(scope="module")
def device() -> CPUDevice:
    return CPUDevice()


@pytest.fixture(scope="module")
def client(device: CPUDevice) -> Iterator[openai.OpenAI]:
    with (
        serving(device, device.served) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as made,
    ):
        yield made


def test_answer(client, device):
    answer = client.chat.completions.create(model="austen", messages=MESSAGES, max_tokens=20, temperature=0)
    assert answer.object == "chat.completion"
    (choice,) = answer.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content == device.expected(PLAIN, 20)
    assert answer.usage.prompt_tokens == len(device.codec.encode(PLAIN))
    assert answer.usage.completion_tokens == 20


def test_stream(client, device):
    """Who speaks first, then what is said, then why it ends; the usage where it is asked for."""
    *events, last = client.chat.completions.create(
        model="austen", messages=MESSAGES, max_completion_tokens=20, temperature=0.7, seed=2, stream=True, n=2,
        stream_options={"include_usage": True},
    )  # fmt: skip
    assert {event.object for event in events} == {"chat.completion.chunk"}
    for index in range(2):
        own = [event.choices[0] for event in events if event.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(one.delta.content or "" for one in own) == device.expected(PLAIN, 20, 0.7, 2 + index)
        assert [one.finish_reason for one in own] == [None] * (len(own) - 1) + ["length"]
    assert (last.choices, last.usage.completion_tokens) == ([], 40)


def test_logprobs(client, device):
    answer = client.chat.completions.create(
        model="austen", messages=MESSAGES, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert "".join(one.token for one in content) == answer.choices[0].message.content == device.expected(PLAIN, 8)
    for one in content:
        assert bytes(one.bytes).decode() == one.token
        assert len(one.top_logprobs) == 3
        assert (one.top_logprobs[0].token, one.top_logprobs[0].logprob) == (one.token, one.logprob), "greedy"
    bare = client.chat.completions.create(model="austen", messages=MESSAGES, max_tokens=8, temperature=0, logprobs=True)
    assert all(one.top_logprobs == [] for one in bare.choices[0].logprobs.content)


def test_a_base_model_does_not_speak_for_the_user(device):
    """The plain template's answer ends where the next line of the dialogue would begin."""
    template = ChatTemplate({})
    assert template.stops == ("\nUser:",)
    assert template.prompt([{"role": "user", "content": "a"}]) == "User: a\nAssistant:"


def test_the_tokenizers_template(device):
    """Blocks are trimmed as `transformers` does it, the special tokens are in the text, and no other is added."""
    settings = {"chat_template": TEMPLATE, "bos_token": {"content": "!"}}
    template = ChatTemplate(settings)
    messages = [{"role": "user", "content": "Hm."}, {"role": "assistant", "content": "Well."}]
    prompt = "!<user>Hm.\n<assistant>Well.\n<assistant>"
    assert template.prompt(messages) == prompt
    assert (template.own, list(template.stops)) == (True, [])
    own = CPUDevice(settings=settings)
    with serving(own, own.served) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        answer = made.chat.completions.create(model="austen", messages=messages, max_tokens=12, temperature=0)
        assert answer.choices[0].message.content == own.expected(prompt, 12)
        with pytest.raises(openai.BadRequestError, match=r"messages must fit the model's chat template \(no system\)"):
            made.chat.completions.create(model="austen", messages=MESSAGES)


@pytest.mark.parametrize(
    "template",
    [
        "{% if tools is not none %}You have tools.{% endif %}{{ messages[0].content }}",
        "{{ documents is none }}",
        "{{ messages[0].content | tojson }}",
        "{{ messages | tojson(indent=2) }}",
        "{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=True) }}",
        "{% for m in messages %}{% set a = 1 %}{% generation %}{{ m.role }}{% set a = 2 %}{% endgeneration %}{{ a }}{% endfor %}",
        "{{ bos_token }}{{ sep_token }}{{ cls_token }}{{ eos_token }}",
    ],
)  # fmt: skip
def test_templates_are_rendered_as_by_transformers(template):
    """What a template may look at: no tools and no documents are none, JSON is not that of web pages, the tags of training."""
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "<sep>"}
    messages = [{"role": "user", "content": 'a < b, said "Émile\'s" & c'}, {"role": "assistant", "content": "d"}]
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0}, unk_token="<s>"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **tokens)
    rendered = theirs.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert ChatTemplate({"chat_template": template, **tokens}).prompt(messages) == rendered


def test_templates_are_kept_in_their_box():
    """A template comes with a model from somewhere: it cannot reach Python, and a damaged one is noticed at the start."""
    wild = ChatTemplate({"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"})
    with pytest.raises(Refused, match="messages must fit the model's chat template"):
        wild.prompt([{"role": "user", "content": "a"}])
    with pytest.raises(TritapeError, match="chat_template of the tokenizer must be a Jinja template, not damaged"):
        ChatTemplate({"chat_template": "{% for %}"})
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert ChatTemplate({"chat_template": named}).prompt([]) == "d"


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"messages": []}, "messages", "messages: List should have at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "messages.0.role: Input should be 'system'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages",
            "messages.0.content",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "tools must be empty"),
        ({"response_format": {"type": "json_object"}}, "response_format", "response_format must be text"),
        ({"store": True}, "store", "store must be false"),
        ({"tool_choice": "required"}, "tool_choice", "tool_choice: Input should be 'none' or 'auto'"),
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs must come with logprobs: true"),
        ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens", "max_tokens must not come with max_completion"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "reasoning_effort must be left out"),
        ({"extra_body": {"repetition_penalty": 1.1}}, "repetition_penalty", "repetition_penalty must be left out"),
    ],
)
def test_wrong_requests(client, change, param, message):
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.chat.completions.create(**{"model": "austen", "messages": MESSAGES, **change})
    assert caught.value.param == param


def test_what_clients_send_without_meaning_it(client, device):
    """Empty lists, defaults spelled out and nulls change nothing."""
    answer = client.chat.completions.create(
        model="austen", messages=MESSAGES, max_tokens=6, temperature=0, tools=[], store=False, user="someone",
        response_format={"type": "text"}, metadata={"a": "b"}, modalities=["text"],
        extra_body={"top_logprobs": None, "reasoning_effort": None, "unheard_of": None},
    )  # fmt: skip
    assert answer.choices[0].message.content == device.expected(PLAIN, 6)


def test_what_came_back_is_sent_again(client, device):
    """Messages as programs keep them, with every field that this one or another server's had, null or empty."""
    kept = dict.fromkeys(("name", "refusal", "tool_calls", "function_call", "audio", "annotations"))
    sent = [{**message, **kept} for message in MESSAGES]
    sent[2] |= {"tool_calls": [], "annotations": []}
    answer = client.chat.completions.create(
        model="austen", messages=sent, max_tokens=6, temperature=0, stream_options=None, logit_bias={"5": None},
        extra_body={"response_format": {"type": "text", "json_schema": None}},
    )  # fmt: skip
    assert answer.choices[0].message.content == device.expected(PLAIN, 6)
    stream = client.chat.completions.create(
        model="austen", messages=sent, max_tokens=6, temperature=0, stream=True,
        stream_options={"include_usage": None, "include_obfuscation": None},
    )  # fmt: skip
    assert "".join(event.choices[0].delta.content or "" for event in stream) == answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_the_end_token_ends_an_answer(device, stream):
    """`finish_reason` is stop; the token has no text, and counts."""
    ids = device.codec.encode(PLAIN)
    device.model.settings()
    device.model.reset()
    tokens = list(device.model.generate_tokens(ids, 40))
    place = next(n for n in range(5, 40) if tokens[n] not in tokens[:n])
    ending = CPUDevice(eos_ids=[tokens[place]])
    with serving(ending, ending.served) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as made:
        common = {"model": "austen", "messages": MESSAGES, "temperature": 0, "stream": stream}
        if stream:
            events = list(made.chat.completions.create(**common))
            text = "".join(event.choices[0].delta.content or "" for event in events)
            finish = events[-1].choices[0].finish_reason
        else:
            answer = made.chat.completions.create(**common)
            text, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
            assert answer.usage.completion_tokens == place + 1
    assert (text, finish) == (device.codec.decode(tokens[:place]), "stop")
