"""The work of one request: all its choices, one after the other, as pieces of text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial

from tritape.host.server.device import ServedDevice
from tritape.host.server.sampling import Sampling
from tritape.host.server.sequence import Runner, Token
from tritape.host.server.ticket import Seat
from tritape.host.server.writer import Names, Piece, Writer
from tritape.model.tokenizer import TextCodec

Run = Callable[..., Generator[Token | None]]
"""`Runner.run` on a device, or `Runner.share` on a seat."""


@dataclass(frozen=True)
class Generation:
    """`n` choices, the best of `best_of`, of `count` tokens behind each prompt; choice number i is sampled with seed + i.

    `echo`: the text of each prompt, which its choices begin with; None: they begin behind it.
    """

    prompts: Sequence[Sequence[int]]
    count: int
    sampling: Sampling
    stops: Sequence[str] = ()
    n: int = 1
    best_of: int = 1
    echo: Sequence[str] | None = None

    def shares(self, runner: Runner) -> bool:
        """Whether this can share a device with other requests."""
        return runner.shares(self.sampling)

    def work(
        self, device: ServedDevice, seat: Seat | None, runner: Runner, codec: TextCodec
    ) -> Generator[Piece | None]:
        """Pieces as they come, and None where there is nothing to say yet. With a seat all choices go on together."""
        run = partial(runner.run, device) if seat is None else partial(runner.share, seat)
        numbers = range(len(self.prompts))
        if self.best_of > self.n:
            choices = [self._best(run, codec, number) for number in numbers]
        else:
            choices = [
                self._choice(run, codec, number, index, index)
                for number in numbers
                for index in range(number * self.n, (number + 1) * self.n)
            ]
        if seat is None:
            for choice in choices:
                yield from choice
            return
        with ExitStack() as stack:
            going = [stack.enter_context(closing(choice)) for choice in choices]
            while going:
                for choice in list(going):
                    for piece in choice:
                        if piece is None:
                            break
                        yield piece
                    else:
                        going.remove(choice)
                if going:
                    yield None

    def _best(self, run: Run, codec: TextCodec, number: int) -> Generator[Piece | None]:
        """The `n` of `best_of` choices with the largest mean log-probability."""
        choices: list[tuple[float, list[Piece]]] = []
        for trial in range(self.best_of):
            pieces: list[Piece] = []
            for piece in self._choice(run, codec, number, 0, number * self.best_of + trial):
                yield None
                if piece is not None:
                    pieces.append(piece)
            logprobs = [
                one.token.logprob or 0.0
                for piece in pieces
                for one in piece.scored
                if one.offset >= self._start(number)
            ]
            choices.append((sum(logprobs) / max(len(logprobs), 1), pieces))
        choices.sort(key=lambda choice: -choice[0])
        spent = sum(piece.tokens for _, pieces in choices[self.n :] for piece in pieces)
        for place, (_, pieces) in enumerate(choices[: self.n]):
            for piece in pieces:
                yield replace(piece, index=number * self.n + place)
        yield Piece(number * self.n, tokens=spent)

    def _start(self, number: int) -> int:
        """Characters of a choice's echo."""
        return 0 if self.echo is None else len(self.echo[number])

    def _choice(self, run: Run, codec: TextCodec, number: int, index: int, trial: int) -> Generator[Piece | None]:
        prompt, sampling = self.prompts[number], self.sampling
        sampling = replace(sampling, seed=(sampling.seed + trial) % (1 << 32))
        names = None if sampling.logprobs is None else Names(codec)
        text = "" if self.echo is None else self.echo[number]
        score = self.echo is not None and names is not None
        writer = Writer(codec, prompt, self.stops, index, offset=len(text), scores=names)
        echo = Piece(index, text)
        stream, offset, left = codec.stream(), 0, len(prompt) if score else 0
        if not score and text:
            yield echo
        asked = run(prompt, self.count, sampling, score=True) if score else run(prompt, self.count, sampling)
        with closing(asked) as tokens:
            for token in tokens:
                if token is None:
                    yield None
                elif left:
                    assert names is not None
                    echo.scored.append(names.scored(token, offset))
                    offset, left = offset + len(stream.push(token.id)), left - 1
                    yield echo if left == 0 else None
                else:
                    yield writer.push(token)
                    if writer.finish is not None:
                        return
        yield writer.end()
