"""One host class for silicon and simulation: it speaks the protocol over any transport that moves bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from tritape.base.errors import TritapeError
from tritape.host.jobs import Job, run_jobs
from tritape.host.link import RETRY_S
from tritape.host.sequence_device import SequenceDevice
from tritape.host.tape_device import Progress
from tritape.model.tokenizer import load_tokenizer


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

    @classmethod
    def open(
        cls, port: str, *, baud: int | None = None, model: str | Path | None = None, retry_s: float | None = None
    ) -> Device:
        """A device on a serial port, or beside this processor (`uio:NAME`). With `model`, a tape file or a checkpoint folder,
        its tape is loaded, unless it is there already, and its tokenizer attached."""
        from tritape.host.transport.port import open_port
        from tritape.host.transport.serial import DEFAULT_BAUD

        baud = baud or DEFAULT_BAUD
        transport = open_port(port, baud)
        try:
            device = cls(
                transport, retry_s=retry_s or RETRY_S + 5000 / baud
            )  # a command and its answer take 5,000 bits
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

    def load_model(self, model: str | Path, progress: Progress | None = None) -> None:
        """`load_tape` of a tape file, or of a checkpoint folder packed for this device; attaches the tokenizer."""
        path = Path(model)
        if path.is_dir():
            from tritape.model.checkpoint import load_checkpoint
            from tritape.model.formats import quantise_model
            from tritape.model.tape.assembler import image

            checkpoint = load_checkpoint(path)
            identity = self.identity
            self.load_tape(
                image(quantise_model(checkpoint), identity.groups, identity.max_rows, identity.engines), progress
            )
            self.tokenizer = load_tokenizer(checkpoint)
        else:
            self.load_tape(path, progress)

    def generate(self, text: str, count: int, temperature: float = 0.0, seed: int | None = None) -> Iterator[str]:
        """Start a sequence with `text` and yield the pieces of the text that follows, of `count` tokens. Needs a tokenizer."""
        if self.tokenizer is None:
            raise TritapeError("device must have a tokenizer to take text, not none; open it with model=...")
        prompt = self.tokenizer.encode(text)
        if not prompt:
            raise TritapeError("prompt must have at least one token, not none; give some text")
        self.settings(temperature, random.getrandbits(32) if seed is None else seed)
        self.reset()
        pieces = self.tokenizer.stream()
        for token in self.generate_tokens(prompt, count):
            if piece := pieces.push(token):
                yield piece
        if piece := pieces.finish():
            yield piece

    def generate_many(
        self, texts: Sequence[str], count: int, temperature: float = 0.0, seed: int | None = None
    ) -> list[str]:
        """The texts that follow each of `texts`, of `count` tokens; text number i is sampled with `seed` + i (None: any).

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
        return [self.tokenizer.decode(job.tokens) for job in jobs]

    def run_jobs(self, jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
        """Run sequences of tokens, as many together as there are slots: (number of the job, token) as they come, which
        `Job.tokens` collects. Each has its own prompt, length, sampler and state. Ends the sequence and the settings of before.
        """
        return run_jobs(self, jobs)
