"""One host class for silicon and simulation: it speaks the protocol over any transport that moves bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from tritape.base.errors import TritapeError
from tritape.host.draft import Draft, open_draft
from tritape.host.jobs import Job, run_jobs
from tritape.host.limits import check_geometry, check_limits
from tritape.host.link import RETRY_S, SILENCE_S, VIRTUAL_SILENCE_S
from tritape.host.sequence_device import SequenceDevice
from tritape.host.tape_device import Progress
from tritape.host.transport import PlacingTransport
from tritape.model.open import OpenModel, open_model
from tritape.model.tape.reader import read_header
from tritape.model.text.stream import until_end
from tritape.model.tokenizer import TextCodec


class Device(SequenceDevice):
    """A tritape accelerator behind a transport.

        with Device.open("/dev/ttyUSB0", model="model.tape") as device:
            for piece in device.generate("Once upon a time", 100):
                print(piece, end="")

    With several slots (`identity.batch`) prompts run as many tokens at a time, and `generate_many` as many texts; every result
    is what one slot gives, sampling included.

    One command is under way at a time; an answer that is lost or damaged is asked for again (`Link`). Whoever opens a device
    ends what an earlier host left running; the tape and the recurrent state stay. Methods raise TritapeError when the device
    refuses, with the cure, or when it or its port is gone.

    What it can do before text is in the classes below it: the tape and the memory in `TapeDevice`, tokens and state in
    `SequenceDevice`, with the attributes of both.
    """

    tokenizer: TextCodec | None = None
    """Of the model that `load_model` put there, if that has one."""
    model: OpenModel | None = None
    """That `load_model` put there."""
    baud: int | None = None
    """Of the port that `open` opened; None where memory is reached by another way than the link."""

    @classmethod
    def open(
        cls,
        port: str,
        *,
        baud: int | None = None,
        model: str | Path | OpenModel | None = None,
        retry_s: float | None = None,
        silence_s: float | None = None,
    ) -> Device:
        """A device on a serial port, or beside this processor (`uio:NAME`). With `model`, that is loaded, as by
        `load_model`, unless it is there already. `retry_s`, `silence_s`: as for `Link`, in place of what suits the port."""
        from tritape.host.transport.port import open_port
        from tritape.host.transport.serial import DEFAULT_BAUD

        baud = baud or DEFAULT_BAUD
        transport = open_port(port, baud)
        try:
            # A command and its answer take 5,000 bits.
            usual = VIRTUAL_SILENCE_S if port.startswith("/dev/pts/") else SILENCE_S
            device = cls(transport, retry_s=retry_s or RETRY_S + 5000 / baud, silence_s=silence_s or usual)
            device.baud = None if isinstance(transport, PlacingTransport) else baud
            if model is not None:
                device.load_model(model)
        except BaseException:
            transport.close()
            raise
        return device

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def load_model(self, model: str | Path | OpenModel, progress: Progress | None = None) -> None:
        """`load_tape` of a tape file, or of a checkpoint packed for this device (a folder, or a name); attaches its tokenizer.

        Raises TritapeError, with nothing written, when the model does not fit the device.
        """
        opened = model if isinstance(model, OpenModel) else open_model(model)
        identity, name = self.identity, opened.name
        if opened.tape is not None:
            check_geometry(identity, opened.tape.geometry, str(opened.path))
        data = opened.image(identity.geometry, identity.max_rows)
        check_limits(identity, read_header(data, identity.geometry, name), len(data), name)
        self.load_tape(data, progress, source=name)
        self.tokenizer, self.model = opened.codec if opened.has_text else None, opened

    def speculate(self, draft: Draft | str | None) -> None:
        """Let a draft guess tokens (docs/speculation.md): `ngram`, the name or path of a small model of the loaded model's
        tokenizer, or one that `open_draft` made; None: no more. Texts are the same, and come sooner. Raises TritapeError for a
        device with one slot, and for another tokenizer."""
        if isinstance(draft, str):
            if self.model is None:
                raise TritapeError(
                    f"device must have a model to be guessed by {draft}, not none; open it with model=..."
                )
            draft = open_draft(draft, self.model)
        super().speculate(draft)

    def generate(
        self,
        text: str,
        count: int,
        temperature: float = 0.0,
        seed: int | None = None,
        draft: Draft | str | None = None,
    ) -> Iterator[str]:
        """Start a sequence with `text` and yield the pieces of the text that follows, up to an end token, of `count` tokens at
        most. Needs a tokenizer. With a draft, `speculate` from now on."""
        if self.tokenizer is None:
            raise TritapeError("device must have a tokenizer to take text, not none; open it with model=...")
        prompt = self.tokenizer.encode(text)
        if not prompt:
            raise TritapeError("prompt must have at least one token, not none; give some text")
        if draft is not None:
            self.speculate(draft)
        self.settings(temperature, random.getrandbits(32) if seed is None else seed)
        self.reset()
        ends = self.tokenizer.eos_ids
        pieces = self.tokenizer.stream(prompt)
        for token in until_end(self.generate_tokens(prompt, count), ends):
            if token not in ends and (piece := pieces.push(token)):
                yield piece
        if piece := pieces.finish():
            yield piece

    def generate_many(
        self, texts: Sequence[str], count: int, temperature: float = 0.0, seed: int | None = None
    ) -> list[str]:
        """The texts that follow each of `texts`, up to an end token, of `count` tokens at most; text number i is sampled with
        `seed` + i (None: any).

        As many go on together as there are slots. Ends the sequence and the settings of before. Needs a tokenizer.
        """
        if self.tokenizer is None:
            raise TritapeError("device must have a tokenizer to take text, not none; open it with model=...")
        first = random.getrandbits(32) if seed is None else seed
        jobs = [
            Job(self.tokenizer.encode(text), count, temperature, (first + number) % (1 << 32))
            for number, text in enumerate(texts)
        ]
        for _ in self.run_jobs(jobs):
            pass
        return [self._text(job) for job in jobs]

    def _text(self, job: Job) -> str:
        """What a job wrote, up to an end token."""
        assert self.tokenizer is not None
        ends = self.tokenizer.eos_ids
        stream = self.tokenizer.stream(job.prompt)
        pieces = [stream.push(token) for token in until_end(job.tokens, ends) if token not in ends]
        return "".join(pieces) + stream.finish()

    def run_jobs(self, jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
        """Run sequences of tokens, as many together as there are slots: (number of the job, token) as they come, which
        `Job.tokens` collects. Each has its own prompt, length, sampler and state. Ends the sequence and the settings of before.
        """
        return run_jobs(self, jobs)
