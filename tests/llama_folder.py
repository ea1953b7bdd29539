"""The `small` model with a tokenizer as the published checkpoints have it: the same ids and English, but `▁` for spaces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tritape.model.data import embedded_models

UNK, BOS = "\\", "`"
"""The tokens that give their ids to `<unk>` and `<s>`. The line feed, which the model really writes, becomes `</s>`."""


def special_token(number: int, text: str) -> dict[str, Any]:
    """An entry of `added_tokens`."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, "special": True, **flags}


def make_folder(folder: Path, **changes: Any) -> int:
    """Write the model's folder; `changes` are entries of tokenizer.json. The id of `</s>`."""
    source = embedded_models()["small"]
    shutil.copytree(source, folder, dirs_exist_ok=True)
    content = json.loads((source / "tokenizer.json").read_text())
    model = content["model"]
    ids = {model["vocab"][old]: new for old, new in ((UNK, "<unk>"), (BOS, "<s>"), ("Ċ", "</s>"))}
    end = model["vocab"]["Ċ"]
    model["vocab"] = {ids.get(number, text.replace("Ġ", "▁")): number for text, number in model["vocab"].items()}
    model["merges"] = [
        [part.replace("Ġ", "▁") for part in pair] for pair in model["merges"] if not any("Ċ" in part for part in pair)
    ]
    model["unk_token"] = "<unk>"
    bos = model["vocab"]["<s>"]
    content |= {
        "added_tokens": [special_token(number, text) for number, text in ids.items()],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content | changes))
    set_config(folder, bos_token_id=bos, eos_token_id=end)
    return end


def set_config(folder: Path, **entries: Any) -> None:
    """Change entries of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
