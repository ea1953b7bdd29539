"""Shape of an `hgrn_bit` model, from config.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError


@dataclass(frozen=True)
class ModelConfig:
    """Shape of an `hgrn_bit` model. Source: config.json of the checkpoint, defaults of the released code.

    `intermediate_size` is resolved: null in the file means 256 * ceil(int(hidden * hidden_ratio * 2/3) / 256).
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    rms_norm_eps: float = 1e-6
    use_lower_bound: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    """That ends a text, or several that do."""

    @classmethod
    def from_file(cls, path: str | Path) -> ModelConfig:
        """Read config.json. Raises TritapeError for a missing or malformed file or an unsupported variant."""
        return cls.from_dict(read_json(Path(path)), str(path))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str) -> ModelConfig:
        """Check the entries of a parsed config.json; `source` is the file name that errors give."""

        def refuse(key: str, wanted: str, cure: str) -> TritapeError:
            value = repr(raw[key]) if key in raw else "missing"
            return TritapeError(f"{source}: {key} must be {wanted}, not {value}; {cure}")

        def size(key: str, default: int | None = None) -> int:
            value = raw.get(key, default)
            if not is_int(value) or value < 1:
                raise refuse(key, "a positive integer", "take config.json from the checkpoint's repository")
            return value

        def flag(key: str, default: bool) -> bool:
            value = raw.get(key, default)
            if not isinstance(value, bool):
                raise refuse(key, "true or false", "correct it")
            return value

        if raw.get("model_type") != "hgrn_bit":
            raise refuse("model_type", "'hgrn_bit'", "use a MatMul-free LM checkpoint")
        if flag("use_short_conv", False):
            raise refuse("use_short_conv", "false", "short convolutions are not supported, use a model without them")
        if raw.get("hidden_act", "swish") not in ("swish", "silu"):
            raise refuse("hidden_act", "'swish' or 'silu'", "other activations are not supported")
        vocab, hidden, layers = size("vocab_size"), size("hidden_size"), size("num_hidden_layers")
        if raw.get("expand_ratio") is not None and size("expand_ratio") != 1:
            raise refuse("expand_ratio", "1", "expanded states are not supported, use a model without them")
        if raw.get("num_heads") is not None and hidden % size("num_heads"):
            raise refuse("num_heads", f"a divisor of hidden_size {hidden}", "correct it")
        if raw.get("intermediate_size") is None:
            ratio = 4 if raw.get("hidden_ratio") is None else raw["hidden_ratio"]
            if not _is_number_below(ratio, 1000) or int(hidden * ratio * 2 / 3) < 1:
                raise refuse("hidden_ratio", "a positive number below 1000", "set it or intermediate_size")
            intermediate = 256 * ((int(hidden * ratio * 2 / 3) + 255) // 256)
        else:
            intermediate = size("intermediate_size")
        eps = raw.get("rms_norm_eps", 1e-6)
        if not _is_number_below(eps, 1):
            raise refuse("rms_norm_eps", "a positive number below 1", "correct it")
        bos, eos = raw.get("bos_token_id"), raw.get("eos_token_id")
        if bos is not None and not _is_id(bos, vocab):
            raise refuse("bos_token_id", f"null or an integer from 0 to {vocab - 1}", "correct it")
        if eos is not None and not all(_is_id(token, vocab) for token in (eos if isinstance(eos, list) else [eos])):
            raise refuse("eos_token_id", f"null or integers from 0 to {vocab - 1}", "correct it")
        return cls(
            vocab_size=vocab,
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=intermediate,
            rms_norm_eps=float(eps),
            use_lower_bound=flag("use_lower_bound", True),
            bos_token_id=bos,
            eos_token_id=tuple(eos) if isinstance(eos, list) else eos,
        )

    def to_dict(self) -> dict[str, Any]:
        """Entries of a config.json that `from_file` reads back as this object and the released code accepts."""
        return {
            "architectures": ["HGRNBitForCausalLM"],
            "model_type": "hgrn_bit",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "intermediate_size": self.intermediate_size,
            "num_heads": 1,
            "expand_ratio": 1,
            "hidden_act": "swish",
            "rms_norm_eps": self.rms_norm_eps,
            "use_lower_bound": self.use_lower_bound,
            "use_short_conv": False,
            "tie_word_embeddings": False,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": list(self.eos_token_id) if isinstance(self.eos_token_id, tuple) else self.eos_token_id,
        }

    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor that a checkpoint of this shape must hold."""
        hidden, intermediate = self.hidden_size, self.intermediate_size

        def bitlinear(prefix: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
            yield f"{prefix}.weight", (rows, columns)
            yield f"{prefix}.norm.weight", (columns,)

        yield "model.embeddings.weight", (self.vocab_size, hidden)
        if self.use_lower_bound:
            yield "model.lower_bounds", (self.num_hidden_layers, hidden)
        for layer in range(self.num_hidden_layers):
            prefix = f"model.layers.{layer}"
            yield f"{prefix}.attn_norm.weight", (hidden,)
            for projection in ("i_proj", "f_proj", "g_proj", "o_proj"):
                yield from bitlinear(f"{prefix}.attn.{projection}", hidden, hidden)
            yield f"{prefix}.attn.g_norm.weight", (hidden,)
            yield f"{prefix}.mlp_norm.weight", (hidden,)
            yield from bitlinear(f"{prefix}.mlp.gate_proj", 2 * intermediate, hidden)
            yield from bitlinear(f"{prefix}.mlp.down_proj", hidden, intermediate)
        yield "model.norm.weight", (hidden,)
        yield from bitlinear("lm_head", self.vocab_size, hidden)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a checkpoint's file. Raises TritapeError naming the file, what is wrong and the cure."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise TritapeError(
            f"{path}: file must exist, not be missing; take it from the checkpoint's repository"
        ) from None
    except OSError as error:
        raise TritapeError(f"{path}: file must be readable, not {error.strerror}; check its permissions") from None
    except (ValueError, RecursionError):
        raise TritapeError(f"{path}: file must be JSON, not damaged text; download it again") from None
    if not isinstance(value, dict):
        raise TritapeError(f"{path}: file must be a JSON object, not {type(value).__name__}; download it again")
    return value


def is_int(value: object) -> bool:
    """Whether a value of a JSON file is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: object, vocab: int) -> bool:
    return is_int(value) and 0 <= value < vocab  # type: ignore[operator]


def _is_number_below(value: object, limit: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < limit
