"""Host link: every command and every error of docs/protocol.md, byte for byte."""

import struct
import zlib

import pytest
from link_script import BOOTED, FAULT, RUNNING, Script

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.hw.config import Config
from tritape.hw.link.commands import Command, ErrorCode, identity
from tritape.hw.link.host_link import HostLink
from tritape.sim.bench import SIMULATORS, check_streams

STATICS = {"configured": 1, "fault": 0, "fault_code": 0, "counter": 0x01020304, "state_value": -2}


def check(script: Script, groups: int = 4, simulator: str = "verilator", *, statics=None, **streams):
    """Run a session; compare its replies, and what reaches memory and token loop."""
    inputs = {name: streams.pop(name, []) for name in ("results", "words", "logits")}
    check_streams(
        HostLink(Config(groups=groups), memory_words=4096, counter_count=2),
        inputs={"rx": list(script.rx), **inputs},
        expected={
            "tx": list(script.tx),
            **{name: streams.pop(name, []) for name in ("write", "requests", "boot", "tokens")},
        },
        statics=STATICS | (statics or {}),
        simulator=simulator,
        after={"rx": script.gates},
        **streams,
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 13])
def test_session(simulator: str, groups: int):
    """Everything that succeeds, once."""
    script = Script(BOOTED)
    words = [bytes((7 * i + j) % 256 for j in range(groups)) for i in range(5)]
    script.send(Command.IDENTIFY, 0xDEADBEEF, back=identity(Config(groups=groups), 4096))
    script.send(Command.WRITE, 0x01020304, 2, words[0] + words[1], left=0x01020306)
    script.send(Command.WRITE, 7, 0)
    script.send(Command.READ, 0x10, 2, back=words[2] + words[3])
    script.send(Command.CHECK, 0x20, 3, left=zlib.crc32(words[2] + words[3] + words[4]))
    script.send(Command.BOOT, 5)
    script.send(Command.SEED, 0xCAFEF00D)
    script.send(Command.TEMPERATURE, 0x1ABCD)
    script.load([3, 96, 0], position=252, fresh=True)
    script.send(Command.POLL, 255 | 0 << 8, 5, back=b"\x1e\x00")
    script.poll(0, [40, 50])
    script.load([], position=1, fresh=False)
    script.load([7], position=1, fresh=False)
    script.poll(2, [60])
    script.send(Command.COUNTERS, 0, 2, back=struct.pack("<II", 0x01020304, 0x01020304))
    script.send(Command.READ_STATE, 9, 2, back=b"\xfe\xff\x03" * 2)
    script.send(Command.WRITE_STATE, 0x15, 1, b"\x01\xff\xff", left=0x16)
    script.send(Command.STOP)
    check(
        script,
        groups,
        simulator,
        results=[10, 20, 30, 40, 50, 60],
        tokens=[{"token": token, "fresh": int(place == 0)} for place, token in enumerate([3, 96, 0, 30, 40, 7])],
        words=[int.from_bytes(word, "little") for word in (words[2], words[3], words[2], words[3], words[4])],
        requests=[{"address": address, "length": 1} for address in (0x10, 0x11, 0x20, 0x21, 0x22)],
        write=[{"address": 0x01020304 + i, "word": int.from_bytes(word, "little")} for i, word in enumerate(words[:2])],
        boot=[0],
        finals={
            "inv_temperature": 0x1ABCD,
            "running": 0,
            "logits_enable": 0,
            "memory_mode": 0,
        },
    )


def test_logits():
    """A run with logits hands them out in chunks; STOP ends the waiting of the head."""
    script = Script(BOOTED)
    script.send(Command.LOAD, 1 << 16 | 1 << 17, 1, b"\x05\x00", left=(1 << 16 | 1 << 17) + 1)
    script.flags |= RUNNING
    script.send(Command.POLL, 1 | 2 << 8, 0)
    script.send(Command.LOGITS, 0, 2, back=b"\xff\xff\x01\x00\x00\x02")
    script.send(Command.LOGITS, 0, 1, back=b"\x07\x00\x00")
    script.send(Command.STOP)
    check(
        script,
        logits=[131071, -131072, 7],
        tokens=[{"token": 5, "fresh": 1}],
        finals={"logits_enable": 0, "running": 1},
    )


def test_errors():
    """Unknown commands, no tape, a fault: each an error, and the next command is obeyed."""
    script = Script(BOOTED)
    for kind in (0x06, 0x3F, 0x56):
        script.send(kind, 1, status=ErrorCode.UNKNOWN_COMMAND)
    script.load([2], position=1, fresh=False)
    script.poll(2, [33])
    check(script, results=[33], tokens=[{"token": 2, "fresh": 0}])
    script = Script()
    script.load([2], position=0, fresh=True)
    script.send(Command.POLL, 1 | 2 << 8, 1, status=ErrorCode.NOT_BOOTED)
    check(script, statics={"configured": 0})


def test_fault():
    """A fault is told by BOOT's flags and by POLL."""
    script = Script(FAULT | BOOTED | 7)
    script.send(Command.BOOT)
    script.load([2], position=0, fresh=True)
    script.send(Command.POLL, 1 | 2 << 8, 1, status=ErrorCode.FAULT)
    check(script, boot=[0], statics={"fault": 1, "fault_code": 7})


def test_busy_and_identify_while_tokens_run():
    """A byte from the host ends every wait: a poll is answered empty, an idle command is refused, identify comes through."""
    script = Script(BOOTED)
    script.load([1], position=0, fresh=True)
    script.flags |= RUNNING
    script.send(Command.POLL, 1 | 9 << 8, 5)
    script.rx += b"\0"
    script.send(Command.WRITE, 1, 1, bytes(4), status=ErrorCode.BUSY)
    script.rx += b"\0"
    script.send(Command.IDENTIFY, 77, back=identity(Config(groups=4), 4096))
    check(script, tokens=[{"token": 1, "fresh": 1}], finals={"running": 1})


def test_a_word_must_fit():
    with pytest.raises(TritapeError, match=r"^engines times groups must be at most 212 .*, not 213; a word must fit"):
        HostLink(Config(groups=213), memory_words=1, counter_count=1)


def test_identity_matches_the_host():
    """The host parses what the gateware sends."""
    config = Config(groups=13, max_hidden=64)
    parsed = protocol.Identity.decode(identity(config, 99))
    assert (parsed.groups, parsed.max_hidden, parsed.memory_words) == (13, 64, 99)
    assert parsed.configuration == config.hash64()
