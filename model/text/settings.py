"""What stands beside tokenizer.json: tokenizer_config.json and its relatives, read once for folders and carried by tapes.

Keys mean what they mean in `transformers` 5: special and added tokens are added, those of the kind `LlamaTokenizer` are built as
that class builds them, spaces are cleaned up where it does so, and whether a text begins with BOS is up to tokenizer.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from tritape.base.errors import TritapeError
from tritape.base.files import read_text
from tritape.model.config import is_int

Settings = Mapping[str, Any]
"""A parsed tokenizer_config.json; empty where there is none."""

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that every tokenizer of `transformers` has a name for."""
_LLAMA_DEFAULTS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a folder: tokenizer_config.json, special_tokens_map.json where the first names no added tokens, and
    chat_template.jinja. Raises TritapeError for damaged files."""
    settings = read_object(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in settings:
        settings |= read_object(folder / "special_tokens_map.json")
    template = folder / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = read_text(template, "chat template")
    return settings


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file. Raises TritapeError for anything else."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise TritapeError(f"{path}: file must be JSON, not damaged text; download it again") from None
    if not isinstance(value, dict):
        raise TritapeError(f"{path}: file must be a JSON object, not {type(value).__name__}; download it again")
    return value


def end_ids(value: Any, folder: Path | None, vocab_size: int, source: str) -> tuple[int, ...]:
    """The ids that end a text: a configuration's `value`, and `eos_token_id` of the folder's generation_config.json, each null,
    one id or several. Ids that the model cannot choose are left out. Raises TritapeError, naming `source`, for anything else.
    """
    values = [(source, value)]
    if folder is not None:
        path = folder / "generation_config.json"
        values.append((f"{path}: eos_token_id", read_object(path).get("eos_token_id")))
    ends: set[int] = set()
    for name, found in values:
        tokens = [] if found is None else found if isinstance(found, (list, tuple)) else [found]
        if not all(is_int(token) for token in tokens):
            raise TritapeError(f"{name} must be null, an id or a list of ids, not {found!r:.80}; correct it")
        ends.update(tokens)
    return tuple(sorted(token for token in ends if 0 <= token < vocab_size))


def token_text(settings: Settings, name: str) -> str | None:
    """The text of a special token such as `bos_token`, or None."""
    value = settings.get(name)
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def make_tokenizer(data: bytes, settings: Settings) -> tokenizers.Tokenizer:
    """The tokenizer of tokenizer.json bytes under settings. Truncation and padding are off. Raises what the library raises."""
    content = json.loads(data)
    if _is_llama(content, settings):
        content = _as_llama(content, settings)
        settings = {**_LLAMA_DEFAULTS, **settings}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens", False))
    known = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_tokens([token for token in _added(settings) if repr(token) not in known])
    names = {str(token) for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_tokens([token for token in _special(settings) if str(token) not in names])
    return tokenizer


def cleans_up(tokenizer: tokenizers.Tokenizer, settings: Settings) -> bool:
    """Whether `stream.clean_up` follows decoding: as `transformers`, not for BPE unless that is insisted on."""
    if not settings.get("clean_up_tokenization_spaces", False):
        return False
    insists = settings.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    return bool(insists) or type(tokenizer.model).__name__ != "BPE"


def _added(settings: Settings) -> Iterator[AddedToken]:
    """The tokens of `added_tokens_decoder` in the order of their ids."""
    entries = settings.get("added_tokens_decoder") or {}
    for _, entry in sorted(entries.items(), key=lambda item: int(item[0])):
        yield AddedToken(**{name: entry[name] for name in _FLAGS if name in entry})


def _special(settings: Settings) -> Iterator[AddedToken]:
    """The special tokens that have a name, then those in lists."""
    listed: Any = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    named: Iterable[Any] = [settings.get(name) for name in NAMED]
    named = [*named, *(value for name, value in settings.items() if name.endswith("_token") and name not in NAMED)]
    for value in [*named, *(listed.values() if isinstance(listed, Mapping) else listed)]:
        if isinstance(value, str):
            yield AddedToken(value, special=True)
        elif isinstance(value, Mapping) and isinstance(value.get("content"), str):
            yield AddedToken(**{**{name: value[name] for name in _FLAGS if name in value}, "special": True})


def _is_llama(content: Any, settings: Settings) -> bool:
    """Whether `transformers` rebuilds this file as its class LlamaTokenizer does: BPE, but not over bytes."""
    if str(settings.get("tokenizer_class", "")).removesuffix("Fast") != "LlamaTokenizer":
        return False
    parts = json.dumps([content.get("pre_tokenizer"), content.get("decoder")])
    return content["model"].get("type", "BPE") == "BPE" and '"ByteLevel"' not in parts


def _as_llama(content: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """tokenizer.json as the class LlamaTokenizer makes it: byte fallback, Metaspace, a first space that decoding removes."""
    prefix = settings.get("add_prefix_space")
    prefix = True if prefix is None else bool(prefix)
    scheme = ("always" if settings.get("legacy", False) else "first") if prefix else "never"
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": content["model"]["vocab"],
        "merges": content["model"]["merges"],
    }
    return content | {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
        "added_tokens": [] if "added_tokens_decoder" in settings else content.get("added_tokens", []),
    }
