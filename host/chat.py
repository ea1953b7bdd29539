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

    A turn ends with `count` tokens, or with one of the codec's end tokens unless `ignore_eos`; `finish_reason` says which:
    `length` or `stop`. The last token that the model chose has not been run yet; it goes first with the next text. Only the
    first text begins with BOS. `text` is all of it so far, `prompt_tokens` and `generated_tokens` count. A device holds one
    conversation at a time.

    A device runs ahead of an end token; what it ran is undone, when the conversation goes on, by running its tokens again.
    """

    def __init__(self, device: TokenDevice, codec: TextCodec, *, ignore_eos: bool = False) -> None:
        self._device, self._codec = device, codec
        self._ends = frozenset() if ignore_eos else codec.eos_ids
        device.reset()
        self.text = ""
        self.prompt_tokens = self.generated_tokens = 0
        self.finish_reason: str | None = None
        self._begin: bytes | None = None  # the state that the conversation was restored from
        self._history: list[int] = []  # tokens run since
        self._pending: list[int] = []
        self._ran_ahead = False

    def say(self, text: str | Sequence[int], count: int) -> Generator[str]:
        """Feed a text (or token ids), then yield the text of `count` tokens at most; some pieces are empty.

        The generator may be closed early: it then ends with the chunk under way, which `text` holds whole. Raises
        TritapeError for a text without tokens at the start.
        """
        first = not self._pending
        ids = self._codec.encode(text, special=first) if isinstance(text, str) else list(text)
        if not ids and first:
            raise TritapeError("prompt must have at least one token, not none; give some text")
        if count < 1:
            raise TritapeError(f"tokens must be at least 1, not {count}; ask for more")
        self._rewind()
        known = [*self._history, *self._pending]
        self.text += self._said(text, known, ids)
        self.prompt_tokens += len(ids)
        self._pending += ids
        self.finish_reason = None
        stream = self._codec.stream([*known, *ids])
        left = count

        def take(token: int) -> str:
            nonlocal left
            left -= 1
            self.generated_tokens += 1
            self._history += self._pending
            self._pending = [token]
            if token in self._ends:
                self.finish_reason = "stop"
            elif not left:
                self.finish_reason = "length"
            piece = stream.push(token) if self.finish_reason != "stop" else ""
            if self.finish_reason is not None:
                piece += stream.finish()
            self.text += piece
            return piece

        try:
            while self.finish_reason is None:
                end = left - min(left, CHUNK)
                chunk = self._device.generate_tokens(self._pending, left - end)
                try:
                    for token in chunk:
                        yield take(token)
                        if self.finish_reason is not None:
                            break
                finally:  # closed early: the device has run the rest of the chunk, or will
                    while self.finish_reason is None and (token := next(chunk, -1)) >= 0:
                        take(token)
                    self._ran_ahead = self.finish_reason == "stop" and left > end
                    if isinstance(chunk, Generator):
                        chunk.close()
        finally:
            self.text += stream.finish()

    def _said(self, text: str | Sequence[int], known: Sequence[int], ids: Sequence[int]) -> str:
        """What a turn's text adds: as it was given, behind the space that a tokenizer puts between two texts."""
        stream = self._codec.stream(known)
        read = "".join(map(stream.push, ids)) + stream.finish()
        if not isinstance(text, str):
            return read
        return " " + text if known and read.startswith(" ") and not text.startswith(" ") else text

    def _rewind(self) -> None:
        """If the device ran ahead of an end token, let the next prompt be all from the beginning."""
        if not self._ran_ahead:
            return
        self._device.reset()
        if self._begin is not None:
            _stateful(self._device).restore_state(self._begin)
        self._history, self._pending = [], self._history + self._pending
        self._ran_ahead = False

    def save(self, path: Path, model: str) -> None:
        """Write the conversation, the device's recurrent state included; `model` is the checkpoint's SHA-256."""
        with replacing(path) as stream:
            stream.write(json.dumps(self.content(model), indent=1).encode() + b"\n")

    def content(self, model: str) -> dict[str, Any]:
        """What `save` writes."""
        if self._ran_ahead:
            self._rewind()
            *self._history, last = self._pending
            self._pending = [last]
            for _ in self._device.generate_tokens(self._history, 1):
                pass
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
        self._begin, self._history, self._ran_ahead = state, [], False


def _damaged(source: str, error: Exception) -> TritapeError:
    return TritapeError(
        f"{source}: conversation must be a file that `tritape chat` saved, not {type(error).__name__}; choose another"
    )


def _stateful(device: TokenDevice) -> StatefulDevice:
    assert hasattr(device, "save_state"), "this device keeps its state to itself"
    return device  # type: ignore[return-value]
