"""Host link: every command and every error of docs/protocol.md, byte for byte."""

from __future__ import annotations

import struct

import pytest

from tritape.host import protocol
from tritape.hw.config import Config
from tritape.hw.link.host_link import Command, HostLink, identity
from tritape.sim.bench import SIMULATORS, check_streams

BOOTED = {"configured": 1, "fault": 0, "fault_code": 0, "vocabulary": 97}


def run(groups: int, script: bytes, replies: bytes, simulator: str, *, results: list[int], seed: int = 0, **expected):
    """Send `script`; compare the bytes that come back and what reaches memory and token loop."""
    config = Config(groups=groups)
    statics = BOOTED | {"counters": (7 << 32) | 0x01020304} | expected.pop("statics", {})
    check_streams(
        HostLink(config, memory_words=4096, counter_count=2),
        inputs={"rx": list(script), "results": results},
        expected={
            "tx": list(replies),
            "write": expected.pop("write", []),
            "boot": expected.pop("boot", []),
            "tokens": expected.pop("tokens", []),
        },
        statics=statics,
        simulator=simulator,
        seed=seed,
        **expected,
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 13])
def test_session(simulator: str, groups: int):
    """Identify, write two words, set the sampler, reset, feed three tokens, generate two, read counters."""
    words = bytes(range(2 * groups))
    script = (
        protocol.plain(Command.IDENTIFY)
        + protocol.write(0x01020304, words, groups)
        + protocol.write(5, b"", groups)
        + protocol.settings(0x1ABCD, 0xDEADBEEF)
        + protocol.plain(Command.RESET)
        + protocol.feed([3, 96, 0])
        + protocol.generate(2)
        + protocol.generate(0)
        + protocol.plain(Command.COUNTERS)
    )
    config = Config(groups=groups)
    replies = (
        b"\x81" + identity(config, 4096) + b"\x82\x82\x84\x85"
        + b"\x86" + struct.pack("<H", 30)
        + b"\x87" + struct.pack("<H", 40) + b"\x87" + struct.pack("<H", 50)
        + b"\x88\x02" + struct.pack("<II", 0x01020304, 7)
    )  # fmt: skip
    fed = [3, 96, 0, 30, 40]
    run(
        groups,
        script,
        replies,
        simulator,
        results=[10, 20, 30, 40, 50],
        tokens=[{"token": token, "fresh": int(place == 0)} for place, token in enumerate(fed)],
        write=[
            {"address": 0x01020304 + i, "word": int.from_bytes(words[i * groups :][:groups], "little")}
            for i in range(2)
        ],
        finals={"inv_temperature": 0x1ABCD, "seed": 0xDEADBEEF, "running": 0},
    )


def test_boot_and_errors():
    """A boot answers with the fault code; wrong commands and tokens answer with an error and leave the link in step."""
    plain = protocol.plain(Command.RESET)
    run(4, b"\x03" + plain, b"\x83\x00\x85", "verilator", results=[], boot=[0])
    run(4, b"\x63" + plain, b"\xff\x01\x85", "verilator", results=[])
    fed = protocol.feed([96, 97, 1, 2])
    run(4, fed + plain, b"\xff\x03\x85", "verilator", results=[1], tokens=[{"token": 96, "fresh": 1}])
    run(4, fed + plain, b"\xff\x02\x85", "verilator", results=[], statics={"configured": 0})
    run(4, protocol.generate(3) + plain, b"\xff\x04\x85", "verilator", results=[], statics={"fault": 1})
    run(4, b"\x03" + plain, b"\x83\x07\x85", "verilator", results=[], boot=[0], statics={"fault": 1, "fault_code": 7})


def test_identity_matches_the_host():
    """The host parses what the gateware sends."""
    config = Config(groups=13, max_hidden=64)
    parsed = protocol.Identity.decode(identity(config, 99))
    assert (parsed.groups, parsed.max_hidden, parsed.memory_words) == (13, 64, 99)
    assert parsed.configuration == config.hash64()
