"""What is different in the host link for one slot and for several: the runner that it drives, and its ports."""

from __future__ import annotations

from amaranth.hdl import Cat, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.link.step_runner import StepRunner
from tritape.hw.link.token_runner import TokenRunner
from tritape.hw.tape.reader import SlotRequest, TokenRequest

Runner = TokenRunner | StepRunner


def loaded(runner: Runner, argument: Value, word: Value) -> list:
    """What LOAD and POLL tell the runner in the argument, and what LOAD's data are in the top of `word`."""
    if isinstance(runner, TokenRunner):
        return [runner.fresh.eq(argument[16]), runner.load.payload.eq(word[-16:])]
    entry = Cat(runner.load.payload)
    return [runner.going.eq(argument[16:]), entry.eq(word[-24:][: len(entry)])]


def loop_ports(batch: int) -> dict[str, wiring.Member]:
    """Ports of `HostLink` that are not the same for one slot and for several."""
    if batch == 1:
        return {
            "tokens": Out(stream.Signature(TokenRequest)),
            "results": In(stream.Signature(16)),
            "inv_temperature": Out(17),
        }
    return {
        "steps": Out(stream.Signature(data.ArrayLayout(SlotRequest, batch))),
        "results": In(stream.Signature(data.ArrayLayout(16, batch))),
        "inv_temperature": Out(17).array(batch),
        "slot": Out(range(batch)),
    }
