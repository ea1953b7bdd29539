"""Host link: every command and every error of docs/protocol.md, byte for byte."""

import struct
from functools import cache

import pytest
from link_script import BOOTED, DAMAGED, RUNNING, Script

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.hw.config import Config
from tritape.hw.link.commands import Command, ErrorCode, identity
from tritape.hw.link.host_link import HostLink
from tritape.sim.bench import SIMULATORS, check_streams

STATICS = {"configured": 1, "fault": 0, "fault_code": 0, "counter": 0x01020304, "state_value": 131067}


WORDS = 1 << 25


made = cache(HostLink)  # each once: elaborating it takes longer than the simulation


def check(script: Script, groups: int = 4, simulator: str = "icarus", *, statics=None, words=WORDS, **streams):
    """Run a session; compare its replies, and what reaches memory and token loop."""
    inputs = {name: streams.pop(name, []) for name in ("results", "memory", "logits")}
    inputs["words"] = inputs.pop("memory")
    check_streams(
        made(Config(groups=groups), memory_words=words, counter_count=2, patience=6),
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
    script.send(Command.IDENTIFY, 0xDEADBEEF, back=identity(Config(groups=groups), WORDS))
    script.send(Command.WRITE, 0x01020304, 2, words[0] + words[1], left=0x01020306)
    script.send(Command.WRITE, 7, 0)
    script.send(Command.READ, 0x10, 2, back=words[2] + words[3])
    script.send(Command.CHECK, 0x20, 3, left=protocol.check_sum(words[2] + words[3] + words[4]))
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
    script.send(Command.READ_STATE, 9, 2, back=b"\xfb\xff\x01" * 2)
    script.send(Command.WRITE_STATE, 0x15, 1, b"\x01\xff\xff", left=0x16)
    script.send(Command.STOP)
    check(
        script,
        groups,
        simulator,
        results=[10, 20, 30, 40, 50, 60],
        tokens=[{"token": token, "fresh": int(place == 0)} for place, token in enumerate([3, 96, 0, 30, 40, 7])],
        memory=[int.from_bytes(word, "little") for word in (words[2], words[3], words[2], words[3], words[4])],
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
    for kind in (0x07, 0x1F, 0x3F, 0x56, 0x91 & 0x7F | 0x20):
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
    script = Script(BOOTED | 7)
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
    script.send(Command.IDENTIFY, 77, back=identity(Config(groups=4), WORDS))
    check(script, tokens=[{"token": 1, "fresh": 1}], finals={"running": 1})


def test_restart_works_while_tokens_run():
    """RESTART answers at once, although a token never ends; the run is over when the tape is no longer configured."""
    script = Script(BOOTED)
    script.load([1], position=0, fresh=True)
    script.flags |= RUNNING
    script.send(Command.POLL, 1 | 9 << 8, 0)
    script.send(Command.RESTART, 3)
    check(script, tokens=[{"token": 1, "fresh": 1}], finals={"memory_mode": 0, "logits_enable": 0})


@pytest.mark.parametrize("kind", [Command.WRITE, Command.READ, Command.CHECK])
def test_addresses_outside_are_refused(kind: Command):
    """No word outside is asked for or written: not the first one, nor one behind the last, nor one far away."""
    script, groups, words = Script(BOOTED), 4, 1000
    for address, count in ((1000, 1), (0xFFFFFFFF, 2), (1 << 31, 1)):
        data = bytes(groups * count) if kind == Command.WRITE else b""
        script.send(kind, address, count, data, status=ErrorCode.RANGE)
    script.send(Command.WRITE, 998, 2, bytes(8), left=1000)
    check(
        script,
        words=words,
        write=[{"address": address, "word": 0} for address in (998, 999)],
        finals={"memory_mode": 1},
    )


def test_a_run_of_words_ends_with_the_memory():
    """Words inside are written, checked or read; the first one outside ends the command: RANGE, or a reply that is short."""
    script, words = Script(BOOTED), 1000
    script.send(Command.WRITE, 999, 2, bytes(8), left=1000, status=ErrorCode.RANGE)
    script.send(Command.CHECK, 998, 3, left=1000, status=ErrorCode.RANGE)
    script.send(Command.READ, 999, 2, back=bytes([1, 2, 3, 4]))
    check(
        script,
        words=words,
        write=[{"address": 999, "word": 0}],
        requests=[{"address": address, "length": 1} for address in (998, 999, 999)],
        memory=[0, 0, 0x04030201],
        finals={"memory_mode": 1},
    )


def test_count_and_data_must_agree():
    """A frame with fewer or more data than its count says is told so, and no command without data may have some."""
    script = Script(BOOTED)
    script.send(Command.WRITE, 7, 3, bytes(8), left=9, status=ErrorCode.LENGTH)
    script.send(Command.WRITE, 7, 3, bytes(11), left=9, status=ErrorCode.LENGTH)
    script.send(Command.WRITE, 7, 1, bytes(5), left=8, status=ErrorCode.LENGTH)
    script.send(Command.WRITE, 7, 0, bytes(4), status=ErrorCode.LENGTH)
    script.send(Command.LOAD, 0, 2, b"\x01\x00", left=1, status=ErrorCode.LENGTH)
    script.send(Command.READ, 7, 1, b"\0", status=ErrorCode.LENGTH)
    script.send(Command.SEED, 7)
    check(script, write=[{"address": address, "word": 0} for address in (7, 8, 7, 8, 7)])


def test_a_memory_that_does_not_answer():
    """CHECK, READ, BOOT and WRITE end by themselves, each with its error, and the link goes on."""
    script = Script()
    script.send(Command.CHECK, 7, 2, status=ErrorCode.MEMORY)
    script.send(Command.READ, 7, 2)  # its head is under way when the memory is asked
    script.send(Command.BOOT, status=ErrorCode.MEMORY)
    script.send(Command.RESTART)
    check(
        script,
        statics={"configured": 0},
        requests=[{"address": 7, "length": 1}] * 2,
        boot=[0],
        finals={"memory_mode": 0},
    )


def test_a_memory_that_fails():
    """An error of the memory ends WRITE with a status, and a reading without the word."""
    script = Script(BOOTED)
    script.send(Command.WRITE, 7, 2, bytes(8), left=8, status=ErrorCode.MEMORY)
    check(script, statics={"write_failed": 1}, write=[{"address": 7, "word": 0}])
    script = Script(BOOTED)
    script.send(Command.CHECK, 7, 2, status=ErrorCode.MEMORY)
    check(script, statics={"read_failed": 1}, requests=[{"address": 7, "length": 1}])


def test_damage_is_told():
    """In the flags of every reply."""
    script = Script(BOOTED | DAMAGED)
    script.load([2], position=1, fresh=False)
    script.poll(2, [33])
    check(script, results=[33], tokens=[{"token": 2, "fresh": 0}], statics={"damaged": 1})


def test_no_token_before_its_pass_is_over():
    """The answer is there, the pass is not over: a poll is answered empty while the run goes on."""
    script = Script(BOOTED)
    script.load([2], position=1, fresh=False)
    script.flags |= RUNNING
    script.send(Command.POLL, 2 | 3 << 8, 1)
    script.rx += b"\0"
    script.send(Command.IDENTIFY, 77, back=identity(Config(groups=4), WORDS))
    check(script, results=[33], tokens=[{"token": 2, "fresh": 0}], statics={"passing": 1}, finals={"running": 1})


def test_a_word_must_fit():
    with pytest.raises(TritapeError, match=r"^engines times groups must be at most 212 .*, not 213; a word must fit"):
        HostLink(Config(groups=213), memory_words=1, counter_count=1)


def test_identity_matches_the_host():
    """The host parses what the gateware sends."""
    config = Config(groups=13, max_hidden=64)
    parsed = protocol.Identity.decode(identity(config, 99))
    assert (parsed.groups, parsed.max_hidden, parsed.memory_words) == (13, 64, 99)
    assert parsed.configuration == config.hash64()
