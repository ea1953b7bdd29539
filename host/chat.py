"""Text over a device: a conversation that goes on, and that a file can hold."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.model.tokenizer import TextCodec

FORMAT = 1
"""Version of the conversation file."""
CHUNK = 16
"""Tokens asked for at once: a conversation can be interrupted between two chunks."""


class TokenDevice(Protocol):
    """What a conversation needs of `tritape.host.device.Device` or `tritape.host.cpu.CPUModel`."""

    def reset(self) -> None:
        """The next token starts a sequence."""

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """Run the prompt and yield `count` tokens as they come."""


class StatefulDevice(TokenDevice, Protocol):
    """A device whose recurrent state can be read and put back."""

    def save_state(self) -> bytes:
        """The recurrent state."""

    def restore_state(self, state: bytes) -> None:
        """Put a state back."""


class Conversation:
    """One sequence of tokens on a device: `say` feeds text and yields the model's, piece by piece.

    The last token that the model chose has not been run yet; it goes first with the next text. `text` is all of it so
    far, `prompt_tokens` and `generated_tokens` count. A device holds one conversation at a time.
    """

    def __init__(self, device: TokenDevice, codec: TextCodec) -> None:
        self._device, self._codec = device, codec
        device.reset()
        self.text = ""
        self.prompt_tokens = self.generated_tokens = 0
        self._pending: list[int] = []

    def say(self, text: str | Sequence[int], count: int) -> Generator[str]:
        """Feed a text (or token ids), then yield the text of `count` tokens; some pieces are empty.

        The generator may be closed early: it then ends with the chunk under way, which `text` holds whole. Raises
        TritapeError for a text without tokens at the start.
        """
        ids = self._codec.encode(text) if isinstance(text, str) else list(text)
        if not ids and not self._pending:
            raise TritapeError("prompt must have at least one token, not none; give some text")
        if count < 1:
            raise TritapeError(f"tokens must be at least 1, not {count}; ask for more")
        self.text += text if isinstance(text, str) else self._codec.decode(ids)
        self.prompt_tokens += len(ids)
        stream = self._codec.stream()
        self._pending += ids
        left = count

        def take(token: int) -> str:
            nonlocal left
            left -= 1
            self.generated_tokens += 1
            self._pending = [token]
            piece = stream.push(token) + ("" if left else stream.finish())
            self.text += piece
            return piece

        while left:
            chunk = self._device.generate_tokens(self._pending, min(left, CHUNK))
            try:
                for token in chunk:
                    yield take(token)
            finally:  # closed early: the device has run the rest of the chunk, or will
                for token in chunk:
                    take(token)

    def save(self, path: Path, model: str) -> None:
        """Write the conversation, the device's recurrent state included; `model` is the checkpoint's SHA-256."""
        with replacing(path) as stream:
            stream.write(json.dumps(self.content(model), indent=1).encode() + b"\n")

    def content(self, model: str) -> dict[str, Any]:
        """What `save` writes."""
        return {
            "format": FORMAT,
            "model": model,
            "pending": self._pending,
            "text": self.text,
            "state": base64.b64encode(_stateful(self._device).save_state()).decode(),
        }

    def load(self, path: Path, model: str) -> None:
        """Go on with a saved conversation. Raises TritapeError, and changes nothing, when the file is not one of this model."""
        try:
            content = json.loads(Path(path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise _damaged(str(path), error) from error
        self.restore(content, model, str(path))

    def restore(self, content: Any, model: str, source: str) -> None:
        """`load` of what `content` gave; `source` is what errors name."""
        try:
            version, made_with = content["format"], content["model"]
            pending, text = [int(token) for token in content["pending"]], str(content["text"])
            state = base64.b64decode(content["state"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise _damaged(source, error) from error
        if version != FORMAT:
            raise TritapeError(
                f"{source}: format of the conversation must be {FORMAT}, not {version!r}; start a new one"
            )
        if made_with != model:
            raise TritapeError(
                f"{source}: conversation must be of model {model[:12]}, not {str(made_with)[:12]}; "
                "load the model that it was held with"
            )
        _stateful(self._device).restore_state(state)
        self._pending, self.text = pending, text


def _damaged(source: str, error: Exception) -> TritapeError:
    return TritapeError(
        f"{source}: conversation must be a file that `tritape chat` saved, not {type(error).__name__}; choose another"
    )


def _stateful(device: TokenDevice) -> StatefulDevice:
    assert hasattr(device, "save_state"), "this device keeps its state to itself"
    return device  # type: ignore[return-value]
