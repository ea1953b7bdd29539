"""What part of a memory's bandwidth its backend delivers on long reads: `python -m tritape.sim.memory.measure axi`.

Every command simulates the backend's RTL, checks every word and prints one JSON object: `words` and `cycles` from the first
word to the last one; `bytes_per_cycle` and its ratio `fraction` to `peak_bytes_per_cycle`; `first_word`, cycles from the
first request to its first word.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from tritape.base.simulators import have_icarus
from tritape.hw.memory.litedram import LiteDRAMMemory
from tritape.hw.memory.qspi import SECTOR
from tritape.rtl_gen.litedram import DRAMS, litedram_core
from tritape.sim.bench import BenchResult, check_streams
from tritape.sim.memory import pattern
from tritape.sim.memory.axi_model import AXIMemoryOnModels, striped
from tritape.sim.memory.flash import QSPIMemoryOnFlash
from tritape.sim.memory.litedram_model import MODEL_ROWS, with_pattern

app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0] if __doc__ else None)


def tape_requests(words: int) -> list[tuple[int, int]]:
    """(address, length) of reads as tokens make them: prologue, row, body, one behind the other."""
    return [(0, 37), (words // 2 + 5, 11), (37, words)]


def inputs(requests: list[tuple[int, int]]) -> dict[str, list[dict[str, int]]]:
    """Of a memory backend that is only read."""
    return {"requests": [{"address": address, "length": length} for address, length in requests], "write": []}


def expected_words(requests: list[tuple[int, int]], groups: int, contents: Callable[[int, int], bytes]) -> list[int]:
    """What the requests must give; `contents(start, size)` are bytes of the image."""
    words = []
    for address, length in requests:
        raw = contents(address * groups, length * groups)
        words += [int.from_bytes(raw[at : at + groups], "little") for at in range(0, len(raw), groups)]
    return words


def figures(result: BenchResult, groups: int, peak: float, **settings: Any) -> dict[str, Any]:
    """The JSON object of a run at full speed; `peak` in bytes a cycle."""
    words = result.transfers["words"]
    cycles = words[-1] - words[0] + 1
    rate = len(words) * groups / cycles
    return {
        **settings,
        "kind": "simulated",
        "groups": groups,
        "words": len(words),
        "cycles": cycles,
        "first_word": result.latency["words"],
        "bytes_per_cycle": round(rate, 4),
        "peak_bytes_per_cycle": peak,
        "fraction": round(rate / peak, 4),
    }


def measure_axi(
    groups: int, ports: int, port_bits: int, latency: int, jitter: int, words: int, simulator: str = "verilator"
) -> dict[str, Any]:
    """Words through `AXIMemory` from an ideal AXI memory with this latency."""
    requests = tape_requests(words)
    result = check_streams(
        AXIMemoryOnModels(groups, ports, port_bits, latency, jitter),
        inputs=inputs(requests),
        expected={"words": expected_words(requests, groups, partial(striped, ports=ports, port_bits=port_bits))},
        finals={"errors": 0},
        input_stall=0,
        output_stall=0,
        simulator=simulator,
    )
    peak = min(groups, ports * port_bits // 8)
    return figures(result, groups, peak, memory="axi", ports=ports, port_bits=port_bits, latency=latency, jitter=jitter)


def measure_qspi(groups: int, words: int) -> dict[str, Any]:
    """Words through `QSPIMemory` from a model of a flash that shows its bits in the cycle behind a clock."""
    requests = tape_requests(words)
    size = max(SECTOR, 1 << (groups * 2 * words).bit_length())
    result = check_streams(
        QSPIMemoryOnFlash(groups, size, pattern.contents(0, size)),
        inputs=inputs(requests),
        expected={"words": expected_words(requests, groups, pattern.contents)},
        finals={"violations": 0},
        input_stall=0,
        output_stall=0,
        simulator="icarus" if have_icarus() else "verilator",
    )
    return figures(result, groups, 0.5, memory="qspi")


def measure_litedram(board: str, groups: int, words: int) -> dict[str, Any]:
    """Words through LiteDRAM's controller for a board's memory, with LiteDRAM's model of the chips; refresh included."""
    core = with_pattern(litedram_core(DRAMS[board], model=True, rows=MODEL_ROWS), 2 * words * groups)
    requests = tape_requests(words)
    result = check_streams(
        LiteDRAMMemory(groups, core, hurry=1000),
        inputs=inputs(requests),
        expected={"words": expected_words(requests, groups, pattern.contents)},
        finals={"errors": 0, "ready": 1},
        input_stall=0,
        output_stall=0,
    )
    peak = min(float(groups), core.peak_bytes)
    return figures(result, groups, peak, memory=f"litedram-{DRAMS[board].memtype.lower()}", board=board)


@app.callback()
def main() -> None:
    """What part of a memory's bandwidth its backend delivers on long reads."""


@app.command()
def axi(
    groups: Annotated[int, typer.Option(help="bytes of a word, G")] = 64,
    ports: Annotated[int, typer.Option(help="AXI ports, a power of two")] = 4,
    port_bits: Annotated[int, typer.Option(help="bits of a port")] = 128,
    latency: Annotated[int, typer.Option(help="cycles from address to data")] = 80,
    jitter: Annotated[int, typer.Option(help="up to so many more, 2^n - 1")] = 31,
    words: Annotated[int, typer.Option(help="words of the long read")] = 20000,
) -> None:
    """AXIMemory against an ideal memory with latency and jitter."""
    print(json.dumps(measure_axi(groups, ports, port_bits, latency, jitter, words)))


_WORDS = Annotated[int, typer.Option(help="words of the long read")]
_GROUPS = Annotated[int, typer.Option(help="bytes of a word, G")]


@app.command()
def sdr(groups: _GROUPS = 16, words: _WORDS = 8000) -> None:
    """SDR SDRAM of the ULX3S: 16 bits at 100 MHz."""
    print(json.dumps(measure_litedram("ulx3s", groups, words)))


@app.command()
def ddr3(groups: _GROUPS = 16, words: _WORDS = 8000) -> None:
    """DDR3 of the ECPIX-5: 16 bits, two per clock of 150 MHz, controller at 75 MHz."""
    print(json.dumps(measure_litedram("ecpix5", groups, words)))


@app.command()
def qspi(groups: _GROUPS = 8, words: _WORDS = 1000) -> None:
    """Serial flash on four lines; a byte takes two clocks."""
    print(json.dumps(measure_qspi(groups, words)))


if __name__ == "__main__":
    app()
