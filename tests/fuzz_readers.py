"""Damaged bytes for every reader of outside bytes: `python tests/fuzz_readers.py --count 1000000 [--reader tape]`; `make fuzz`.

Each reader gets a good input with random damage. It may accept it or raise `TritapeError`; anything else, or more than
`SECONDS` for one input, is a failure that prints the reader, the seed of the input and the exception. Inputs are the same for
the same seed. `tests/test_fuzz.py` runs a few hundred of each.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress
from small_board import SMALL, small_model

from tritape.base.errors import TritapeError
from tritape.host import frames, protocol
from tritape.host.power.csv_trace import read_csv
from tritape.host.state import SavedState
from tritape.host.transport.replay import ReplayTransport
from tritape.hw.link.host_link import identity
from tritape.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import embedded_models
from tritape.model.tape.assembler import image, pack
from tritape.model.tape.container import read_tape
from tritape.model.tape.reader import read_model
from tritape.model.tokenizer import tape_tokenizer
from tritape.rtl_gen.archive import read_archive

SMALL_TOKENIZER = embedded_models()["nano"] / "tokenizer.json"
SECONDS = 2.0
"""Longest time that one small input may take."""
MEMORY = 4 << 30
"""Bytes of address space of the process: a length in a damaged input must not become an allocation."""


@dataclass(frozen=True)
class Reader:
    """A reader: a good input, and what reads one."""

    good: bytes
    read: Callable[[bytes], object]


def damaged(good: bytes, rng: random.Random) -> bytes:
    """Good bytes with one to four kinds of damage: flipped bits, cut, doubled or moved pieces, numbers at their extremes."""
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind, place = rng.randrange(7), rng.randrange(len(data) + 1)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            del data[place : place + rng.randrange(1, 9)]
        elif kind == 3:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 4:
            size = rng.choice((1, 2, 4, 8))
            data[place : place + size] = rng.choice((b"\xff", b"\x00", b"\x7f", b"\x80", b"9", b"-")) * size
        elif kind == 5:
            start = rng.randrange(len(data) + 1)
            data[place:place] = data[start : start + rng.randrange(1, 33)]
        else:
            data[place : place + 1] = rng.choice(
                (b'"', b"{", b"}", b"[", b"null", b"1e999", b"NaN", b",", b"\n", b";", b"\xc3")
            )
    return bytes(data)


def readers(folder: Path) -> Iterator[tuple[str, Reader]]:
    """(name, reader) of every reader; files go into `folder`."""
    shape = ModelConfig(vocab_size=32, hidden_size=20, num_hidden_layers=2, intermediate_size=24)
    save_checkpoint(random_checkpoint(shape, seed=1), folder / "good")

    def file_of_checkpoint(name: str) -> Reader:
        target = folder / "damaged"
        save_checkpoint(random_checkpoint(shape, seed=1), target)
        good = (target / name).read_bytes()

        def read(data: bytes) -> None:
            (target / name).write_bytes(data)
            try:
                load_checkpoint(target)
            finally:
                (target / name).write_bytes(good)

        # all that is structure stands at the beginning
        return Reader(good[:4096], lambda data: read(data + good[4096:]))

    yield "config", file_of_checkpoint("config.json")
    yield "safetensors", file_of_checkpoint("model.safetensors")

    def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def run(data: bytes) -> object:
            (folder / name).write_bytes(data)
            return read(folder / name)

        return run

    path = folder / "small.tape"
    about = pack(small_model(), path, 4, 128, tokenizer=(SMALL_TOKENIZER).read_bytes())
    read_whole = in_file("damaged.tape", read_everything)
    yield "tape", Reader(path.read_bytes(), read_whole)
    picture, tokenizer = image(small_model(), 4, 128), SMALL_TOKENIZER.read_bytes()

    def with_good_crc(metadata: bytes, tokenizer: bytes) -> object:
        """A tape whose metadata and tokenizer are damaged and whose check sum says that they are not."""
        head = struct.pack(
            "<8sIIQI", b"TRITAPE1", len(metadata), len(tokenizer), len(picture), zlib.crc32(metadata + tokenizer)
        )
        return read_whole(head + metadata + tokenizer + picture)

    yield "metadata", Reader(json.dumps(about).encode(), lambda data: with_good_crc(data, tokenizer))
    yield (
        "tokenizer",
        Reader(tokenizer[:2000], lambda data: with_good_crc(json.dumps(about).encode(), data + tokenizer[2000:])),
    )

    buffer = io.BytesIO()
    manifest = {
        "format": 1,
        "board": "x",
        "bitstream": "x.bit",
        "crc32": "00000000",
        "configuration_hash": "0" * 16,
        "state": "routed",
    }
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("x.bit", b"")
    yield "archive", Reader(buffer.getvalue(), in_file("x.zip", read_archive))

    session = b"".join(
        (Path(__file__).parent / "data" / "session-small.txt").read_bytes().splitlines(keepends=True)[:60]
    )
    yield "session", Reader(session, in_file("session.txt", ReplayTransport))

    trace = "time,watts\n" + "".join(f"{1700000000 + at / 10},{1 + at / 100}\n" for at in range(40))
    yield "csv", Reader(trace.encode(), in_file("trace.csv", read_csv))

    saved = SavedState(0, 20, 2, bytes(range(120)), fresh=False, last=3, ahead=(4, 5))
    yield "state", Reader(saved.pack(), lambda data: SavedState.unpack(data, (20, 2), 0, 120))
    told = identity(SMALL.config, 4096)
    yield "identity", Reader(told, protocol.Identity.decode)
    content = protocol.command(protocol.Command.IDENTIFY, 3, 7)
    yield "frame", Reader(frames.encode(content), frames.decode)
    yield "reply", Reader(bytes([0x81, 3]) + bytes(6) + told, protocol.Reply.decode)


def read_everything(path: Path) -> None:
    """A tape file: container, model and tokenizer."""
    tape = read_tape(path)
    read_model(tape, str(path))
    tape_tokenizer(tape, str(path))


def fuzz(
    count: int, only: str | None = None, seed: int = 0, say: Callable[[str, int], None] = lambda name, done: None
) -> list[str]:
    """Give every reader (or one) `count` damaged inputs; the failures, a line each."""
    failures = []
    with tempfile.TemporaryDirectory() as place:
        for name, reader in readers(Path(place)):
            if only not in (None, name):
                continue
            for number in range(count):
                data = damaged(reader.good, random.Random(f"{seed} {name} {number}"))
                started = time.monotonic()
                try:
                    reader.read(data)
                except TritapeError:
                    pass
                except Exception as error:
                    failures.append(f"{name}, seed {seed}, input {number}: {type(error).__name__}: {error}")
                if time.monotonic() - started > SECONDS:
                    failures.append(f"{name}, seed {seed}, input {number}: took more than {SECONDS} s")
                if number % 100 == 99:
                    say(name, number + 1)
                if len(failures) > 20:
                    return failures
    return failures


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="damaged inputs for each reader")
    parser.add_argument("--reader", help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with Progress(transient=True) as progress:
        tasks: dict[str, object] = {}

        def say(name: str, done: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=chosen.count)
            progress.update(tasks[name], completed=done)  # type: ignore[arg-type]

        failures = fuzz(chosen.count, chosen.reader, chosen.seed, say)
    for line in failures:
        print(line)
    print(f"{len(failures)} failures")
    return min(len(failures), 1)


if __name__ == "__main__":
    sys.exit(main())
