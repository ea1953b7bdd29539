"""Damaged bytes for every reader of outside bytes: `python tests/fuzz_readers.py --count 1000000 [--reader tape]`; `make fuzz`.

Each reader gets a good input with random damage. It may accept it or raise `TritapeError`; anything else, or more than
`SECONDS` of the processor for one input, is a failure that prints the reader, the seed of the input and the exception. Inputs are
the same for the same seed. `tests/test_fuzz.py` runs a few hundred of each.

`--atheris SECONDS` lets atheris (extra `fuzz`) look for inputs that reach new lines of the same readers, for so long each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress
from small_board import SMALL

from tritape.base.errors import TritapeError
from tritape.host import frames, protocol
from tritape.host.power.csv_trace import read_csv
from tritape.host.state import SavedState
from tritape.host.transport.replay import ReplayTransport
from tritape.hw.link.host_link import identity
from tritape.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.tape.assembler import image, pack
from tritape.model.tape.container import read_tape
from tritape.model.tape.reader import read_model
from tritape.model.tokenizer import tape_tokenizer
from tritape.rtl_gen.archive import read_archive

SECONDS = 2.0
"""Longest time of the processor that one small input may take."""
MEMORY = 4 << 30
"""Bytes of address space of a process: a length in a damaged input must not become an allocation."""
CHUNK = 5_000
"""Inputs that a process takes at a time."""
SHAPE = ModelConfig(vocab_size=16, hidden_size=5, num_hidden_layers=1, intermediate_size=5)
"""Everything is small, so that a million inputs take minutes."""


def small_tokenizer() -> bytes:
    """A tokenizer.json of every part that one can have, for the words of `SHAPE`."""
    words = ["<unk>", "</s>", *(chr(ord("a") + place) for place in range(11)), "Ġ", "ab", "Ġa"]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": 1,
                    "content": "</s>",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
            ],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": "<unk>",
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": {word: place for place, word in enumerate(words)},
                "merges": ["a b", "Ġ a"],
            },
        }
    ).encode()


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
    weights = random_checkpoint(SHAPE, seed=1)
    model = quantise_model(weights, ids=list(range(8)))

    def file_of_checkpoint(name: str) -> Reader:
        target = folder / name.replace(".", "-")
        save_checkpoint(weights, target)
        good = (target / name).read_bytes()

        def read(data: bytes) -> None:
            (target / name).write_bytes(data)
            load_checkpoint(target)

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
    about = pack(model, path, 4, 16, tokenizer=small_tokenizer())
    read_whole = in_file("damaged.tape", read_everything)
    yield "tape", Reader(path.read_bytes(), read_whole)
    picture, tokenizer = image(model, 4, 16), small_tokenizer()

    def with_good_crc(metadata: bytes, tokenizer: bytes, read: Callable[[bytes], object] = read_whole) -> object:
        """A tape whose metadata or tokenizer is damaged and whose check sum says that it is not."""
        head = struct.pack(
            "<8sIIQI", b"TRITAPE1", len(metadata), len(tokenizer), len(picture), zlib.crc32(metadata + tokenizer)
        )
        return read(head + metadata + tokenizer + picture)

    yield "metadata", Reader(json.dumps(about).encode(), lambda data: with_good_crc(data, tokenizer))
    read_tokenizer = in_file("damaged.tape", lambda path: tape_tokenizer(read_tape(path), str(path)))
    metadata = json.dumps(about).encode()
    yield "tokenizer", Reader(tokenizer, lambda data: with_good_crc(metadata, data, read_tokenizer))

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
        (Path(__file__).parent / "data" / "session-small.txt").read_bytes().splitlines(keepends=True)[:20]
    )
    yield "session", Reader(session, in_file("session.txt", ReplayTransport))

    trace = "time,watts\n" + "".join(f"{1700000000 + at / 10},{1 + at / 100}\n" for at in range(8))
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


class _TooLongError(Exception):
    """An input took more than `SECONDS`."""


def _stop(number: int, frame: object) -> None:
    raise _TooLongError


def attempt(reader: Reader, data: bytes) -> str | None:
    """What is wrong with how a reader took an input; None: nothing. Only in a main thread: a timer ends what takes too long."""
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        reader.read(data)
    except TritapeError:
        return None
    except _TooLongError:
        return f"took more than {SECONDS} s"
    except BaseException as error:  # the tokenizers library's panics are no Exception
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def fuzz(count: int, only: str | None = None, seed: int = 0, first: int = 0) -> list[str]:
    """Give every reader (or one) `count` damaged inputs, from number `first` on; the failures, a line each."""
    failures = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        for name, reader in readers(Path(place)):
            if only not in (None, name):
                continue
            for number in range(first, first + count):
                wrong = attempt(reader, damaged(reader.good, random.Random(f"{seed} {name} {number}")))
                if wrong is not None:
                    failures.append(f"{name}, seed {seed}, input {number}: {wrong}")
                if len(failures) > 20:
                    return failures
    return failures


def names() -> list[str]:
    """Of all readers."""
    with tempfile.TemporaryDirectory() as place:
        return [name for name, _ in readers(Path(place))]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _chunk(work: tuple[str, int, int, int]) -> tuple[str, int, list[str], float]:
    name, seed, first, count = work
    started = time.process_time()
    return name, count, fuzz(count, name, seed, first), time.process_time() - started


def fuzz_all(
    count: int, only: str | None, seed: int, jobs: int, say: Callable[[str, int], None] = lambda name, done: None
) -> dict[str, Any]:
    """The same on several processes: inputs, failures and seconds of the processor by reader."""
    done: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    failures: list[str] = []
    todo = [
        (name, seed, first, min(CHUNK, count - first))
        for name in ([only] if only else names())
        for first in range(0, count, CHUNK)
    ]
    with multiprocessing.Pool(jobs, _limit) as pool:
        for name, size, found, spent in pool.imap_unordered(_chunk, todo):
            done[name] += size
            seconds[name] += round(spent, 1)
            failures += found
            say(name, done[name])
    return {"seed": seed, "inputs": dict(done), "seconds": dict(seconds), "failures": failures}


GUIDED = """
import sys, atheris
with atheris.instrument_imports(include=["tritape"]):
    import fuzz_readers
fuzz_readers.with_atheris(sys.argv[1], int(sys.argv[2]))
"""
"""What a process runs in which atheris follows the lines of this project."""


def with_atheris(name: str, seconds: int) -> None:
    """Look for inputs that reach new lines of one reader; ends this process, with a status other than 0 after a failure."""
    import atheris

    with tempfile.TemporaryDirectory() as place:
        reader = dict(readers(Path(place)))[name]
        corpus = Path(place) / "corpus"
        corpus.mkdir()
        (corpus / "good").write_bytes(reader.good)

        def one(data: bytes) -> None:
            with contextlib.suppress(TritapeError):
                reader.read(data)

        atheris.Setup(
            [name, f"-max_total_time={seconds}", f"-timeout={int(SECONDS)}", "-rss_limit_mb=4096", str(corpus)], one
        )
        atheris.Fuzz()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="damaged inputs for each reader")
    parser.add_argument("--reader", help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--atheris", type=int, metavar="SECONDS", help="guided by coverage instead, for so long each")
    chosen = parser.parse_args()
    if chosen.atheris:
        here = str(Path(__file__).parent)
        chosen_names = [chosen.reader] if chosen.reader else names()
        commands = ([sys.executable, "-c", GUIDED, name, str(chosen.atheris)] for name in chosen_names)
        return max(abs(subprocess.run(command, cwd=here).returncode) for command in commands)
    with Progress(transient=True) as progress:
        tasks: dict[str, Any] = {}

        def say(name: str, done: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=chosen.count)
            progress.update(tasks[name], completed=done)

        result = fuzz_all(chosen.count, chosen.reader, chosen.seed, chosen.jobs, say)
    print(json.dumps(result, indent=1))
    return int(bool(result["failures"]))


if __name__ == "__main__":
    sys.exit(main())
