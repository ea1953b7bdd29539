"""AXIMemory at a port that breaks the rules: each fault is told and has its own cause, nothing hangs, a restart makes it good."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from amaranth.sim import Simulator
from faulty_axi import DECERR, OKAY, SLVERR, Burst, FaultyAXI

from tritape.base.errors import TritapeError
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.axi_bus import ID_BITS
from tritape.hw.memory.axi_reader import AXIReader
from tritape.hw.memory.faults import Cause

GROUPS, PORT_BITS, BURST, WORDS = 5, 32, 4, 60
SIZE = -(-GROUPS * WORDS // 4) * 4
PATIENCE = 200


class Bench:
    """One port, its faulty memory, and an accelerator's side in steps."""

    def __init__(self, **faults: Any) -> None:
        self.memory = AXIMemory(GROUPS, 1, PORT_BITS, BURST, fifo_lines=4 * BURST, words=WORDS)
        self.read_failed = self.memory.read_failed
        self.quiet = False
        image = bytearray(random.Random(1).randbytes(SIZE))
        self.slave = FaultyAXI(image, base=0x7000, silent=lambda: self.quiet, **faults)
        self.read_failures = 0

    def word(self, at: int) -> int:
        return int.from_bytes(self.slave.image[at * GROUPS : (at + 1) * GROUPS], "little")

    def run(self, script: Callable[[Bench], Any]) -> None:
        async def testbench(context: Any) -> None:
            self.context = context
            context.set(self.memory.base[0], 0x7000)
            await script(self)

        async def slave(context: Any) -> None:
            await self.slave.run(context, self.memory.axi[0])

        simulator = Simulator(self.memory)
        simulator.add_clock(1e-6)
        simulator.add_testbench(testbench)
        simulator.add_testbench(slave, background=True)
        simulator.run()

    async def tick(self) -> None:
        self.read_failures += self.context.get(self.read_failed)
        await self.context.tick()

    async def wait(self, cycles: int) -> None:
        for _ in range(cycles):
            await self.tick()

    async def restart(self) -> None:
        for stream in (self.memory.requests, self.memory.write):
            self.context.set(stream.valid, 0)
        self.context.set(self.memory.restart, 1)
        await self.tick()
        self.context.set(self.memory.restart, 0)
        self.read_failures = 0

    async def read(self, address: int, length: int, patience: int = PATIENCE) -> list[int]:
        """The words that come, until all are there or none came for `patience` cycles."""
        context, requests, words = self.context, self.memory.requests, self.memory.words
        context.set(requests.payload.address, address)
        context.set(requests.payload.length, length)
        context.set(requests.valid, 1)
        context.set(words.ready, 1)
        handshake, valid, payload = requests.valid & requests.ready, words.valid, words.payload
        got, waited = [], 0
        while len(got) < length and waited < patience:
            waited += 1
            taken = context.get(handshake)
            if context.get(valid):
                got.append(context.get(payload))
                waited = 0
            await self.tick()
            if taken:
                context.set(requests.valid, 0)
        context.set(words.ready, 0)
        return got

    async def write(self, address: int, word: int, patience: int = PATIENCE) -> bool | None:
        """Whether the word was stored; None: there was no answer."""
        context, write = self.context, self.memory.write
        context.set(write.payload.address, address)
        context.set(write.payload.word, word)
        context.set(write.valid, 1)
        for _ in range(patience):
            if context.get(write.ready):
                failed = context.get(self.memory.write_failed)
                await self.tick()
                context.set(write.valid, 0)
                return not failed
            await self.tick()
        return None

    def told(self) -> tuple[int, Cause]:
        return self.context.get(self.memory.errors), Cause(self.context.get(self.memory.cause))

    async def works(self) -> None:
        """After a restart all words come as they are, and nothing more is told."""
        await self.restart()
        await self.wait(2)  # `errors` is two cycles behind
        before = self.told()[0]
        assert await self.read(0, WORDS, AXIReader.QUIET + PATIENCE) == [self.word(at) for at in range(WORDS)]
        assert (self.read_failures, self.told()[0]) == (0, before)
        assert await self.write(7, 0x1234_5678_9A) is True
        assert await self.read(6, 3) == [self.word(6), 0x1234_5678_9A, self.word(8)]
        assert self.told()[0] == before


@pytest.mark.parametrize(
    ("response", "cause"), [(SLVERR, Cause.SLVERR), (DECERR, Cause.DECERR)], ids=["SLVERR", "DECERR"]
)
def test_error_response(response: int, cause: Cause) -> None:
    """The words still come."""
    bench = Bench(faults={2: Burst(response=response)})

    async def script(bench: Bench) -> None:
        assert await bench.read(0, WORDS) == [bench.word(at) for at in range(WORDS)]
        assert (bench.read_failures, *bench.told()) == (1, 1, cause)
        await bench.works()

    bench.run(script)


FAULTS = {
    "RLAST early, the rest comes": (Burst(early=True), Cause.EARLY),
    "RLAST early, the rest does not come": (Burst(shorter=2), Cause.EARLY),
    "RLAST late": (Burst(longer=3), Cause.LATE),
    "RLAST very late": (Burst(longer=300), Cause.LATE),
    "RLAST lost": (Burst(lost=True), Cause.LATE),
}


@pytest.mark.parametrize("burst", [0, 3])
@pytest.mark.parametrize("name", FAULTS)
def test_burst_of_the_wrong_length(name: str, burst: int) -> None:
    """What came before is right, what comes after is not passed on, and reads go on after a restart."""
    fault, cause = FAULTS[name]
    bench = Bench(faults={burst: fault})

    async def script(bench: Bench) -> None:
        got = await bench.read(0, WORDS)
        assert got == [bench.word(at) for at in range(len(got))]
        assert len(got) <= (burst + 1) * BURST * 4 // GROUPS
        assert (bench.read_failures, *bench.told()) == (1, 1, cause)
        await bench.works()

    bench.run(script)


@pytest.mark.parametrize("fault", [Burst(lost=True), Burst(early=True), Burst(shorter=1), Burst(longer=2)])
@pytest.mark.parametrize("cycles", [6, 9, 14, 20])
def test_a_fault_in_what_is_dropped(fault: Burst, cycles: int) -> None:
    """A restart in front of, amid and behind the faulty burst."""
    bench = Bench(faults={0: fault})

    async def script(bench: Bench) -> None:
        await bench.read(0, WORDS, cycles)
        assert bench.slave.reads
        await bench.works()

    bench.run(script)


def test_a_beat_that_nothing_asked_for() -> None:
    bench = Bench()

    async def script(bench: Bench) -> None:
        assert await bench.read(3, 2) == [bench.word(3), bench.word(4)]
        await bench.wait(30)
        bench.slave.stray = 1
        await bench.wait(10)
        assert (bench.read_failures, *bench.told()) == (1, 1, Cause.UNEXPECTED)
        asked = len(bench.slave.reads)
        assert await bench.read(0, 9) == []
        assert len(bench.slave.reads) == asked
        await bench.works()

    bench.run(script)


@pytest.mark.parametrize("after", [0, 1, 5, 12])
def test_a_silent_memory_that_recovers(after: int) -> None:
    """While it owes something no burst is asked for; what it gives at last is dropped."""
    bench = Bench()

    async def script(bench: Bench) -> None:
        await bench.read(0, WORDS, after)
        bench.quiet = True
        await bench.read(0, 1, 10)
        for _ in range(3):
            await bench.restart()
            asked = len(bench.slave.reads)
            assert await bench.read(9, 2, 2 * AXIReader.QUIET) == []
            assert await bench.write(9, 1, 50) is None
            assert (len(bench.slave.reads), bench.read_failures, bench.told()[0]) == (asked, 0, 0)
        await bench.restart()
        bench.quiet = False
        await bench.works()

    bench.run(script)


def test_a_refused_write() -> None:
    """The word's last beat, one in its middle, and the first: each is told with the word."""
    bench = Bench(write_responses={1: SLVERR, 4: DECERR, 6: SLVERR})

    async def script(bench: Bench) -> None:
        # Words of 5 bytes in lines of 4: two beats a word, word 3 one byte later than word 2.
        assert [await bench.write(at, at + 1) for at in range(4)] == [False, True, False, False]
        assert bench.told() == (3, Cause.WRITE)
        assert bench.read_failures == 0
        await bench.works()

    bench.run(script)


def test_an_answer_to_no_write() -> None:
    bench = Bench()

    async def script(bench: Bench) -> None:
        assert await bench.write(0, 1) is True
        bench.slave.stray_answers = 1
        await bench.wait(10)
        assert bench.told() == (1, Cause.UNEXPECTED)
        await bench.works()

    bench.run(script)


def test_a_write_that_is_never_answered() -> None:
    """The accelerator gives up; when the memory comes back the word is stored and the next one counts."""
    bench = Bench()

    async def script(bench: Bench) -> None:
        bench.quiet = True
        assert await bench.write(20, 0xABCDEF) is None
        for _ in range(2):
            await bench.restart()
            assert await bench.write(30, 0x55) is None
        await bench.restart()
        assert await bench.read(0, 1) == []
        await bench.restart()
        bench.quiet = False
        await bench.wait(60)
        assert bench.word(20) == 0xABCDEF
        await bench.works()

    bench.run(script)


HASTE = 128


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarts give up sooner than on a board."""
    monkeypatch.setattr(AXIReader, "QUIET", HASTE)


async def lose(bench: Bench, burst: int, fault: Burst) -> None:
    """Read until burst `burst` from now on goes wrong; the bus then owes something. Only where a burst is missing and others
    follow it can words come that are not right: their beats are in its place."""
    bench.slave.faults[len(bench.slave.reads) + burst] = fault
    got = await bench.read(0, WORDS, 40)
    assert fault.missing or got == [bench.word(at) for at in range(len(got))]
    assert len(got) < WORDS
    bench.slave.faults.clear()


@pytest.mark.usefixtures("hasty")
def test_bursts_that_never_come() -> None:
    """More of them than there are identifiers: each restart ends, its first read waits for `QUIET` cycles at most."""
    bench = Bench()

    async def script(bench: Bench) -> None:
        for burst in range((1 << ID_BITS) + 2):
            await lose(bench, burst, Burst(missing=True))
            await bench.works()
        assert bench.told() == (burst + 1, Cause.EARLY)  # every time the last one, which is shorter, in another's place

    bench.run(script)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("seed", range(4))
def test_bursts_that_come_long_after(seed: int) -> None:
    """Beats of some restarts ago, at any time, between those of now, with any response: they are dropped without a word."""
    rng = random.Random(seed)
    bench = Bench(latency=rng.randrange(1, 12), rng=rng)

    async def script(bench: Bench) -> None:
        for _ in range(7):
            await lose(
                bench, rng.randrange(4), Burst(later=rng.randrange(2, 9) * HASTE, response=rng.choice((OKAY, SLVERR)))
            )
            await bench.works()
            for _ in range(rng.randrange(8)):
                at = rng.randrange(WORDS - 1)
                assert await bench.read(at, 2) == [bench.word(at), bench.word(at + 1)]
        await bench.wait(9 * HASTE)
        await bench.works()
        assert bench.told() == (0, Cause.NONE)

    bench.run(script)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("late", [None, 5 * HASTE, HASTE // 4])
@pytest.mark.parametrize("beat", [0, 1])
def test_an_answer_that_never_comes(beat: int, late: int | None) -> None:
    """Of either beat of a word: a restart gives it up, and an answer that comes later counts for no other write."""
    bench = Bench()

    async def script(bench: Bench) -> None:
        for _ in range((1 << ID_BITS) + 2 if late is None else 3):
            assert await bench.write(20, 0) is True
            bench.slave.late_answers[len(bench.slave.writes) + beat] = late
            assert await bench.write(20, 0xFF_FFFF_FFFF, 20) is None
            await bench.works()
            assert await bench.write(20, 0x11) is True
            assert bench.word(20) == 0x11
        await bench.wait(6 * HASTE)
        await bench.works()
        assert bench.told() == (0, Cause.NONE)

    bench.run(script)


@pytest.mark.usefixtures("hasty")
def test_an_answer_that_is_late_is_waited_for() -> None:
    """Without a restart nothing is given up, and with one nothing that comes in time: the word is whole."""
    bench = Bench(late_answers={0: 5 * HASTE, 2: HASTE // 2 - 20})

    async def script(bench: Bench) -> None:
        assert await bench.write(20, 0xA_BBBB_CCCC, 6 * HASTE) is True
        assert await bench.write(30, 0xA_BBBB_DDDD, 20) is None
        await bench.works()
        assert (bench.word(20), bench.word(30)) == (0xA_BBBB_CCCC, 0xA_BBBB_DDDD)
        assert bench.told() == (0, Cause.NONE)

    bench.run(script)


@pytest.mark.parametrize(
    ("address", "length"), [(WORDS, 1), (WORDS - 1, 2), (0, WORDS + 1), (1 << 31, 1), (0xFFFF_FFFF, 0xFFFF_FFFF)]
)
def test_addresses_outside(address: int, length: int) -> None:
    """Reads and writes behind the memory's last word never reach the bus, and what is inside works at once."""
    bench = Bench()

    async def script(bench: Bench) -> None:
        assert await bench.read(address, length) == []
        assert (bench.read_failures, *bench.told()) == (1, 1, Cause.OUTSIDE)
        assert bench.slave.reads == []
        if address >= WORDS:
            assert await bench.write(address, 5) is False
            await bench.wait(3)
            assert (bench.slave.writes, *bench.told()) == ([], 2, Cause.OUTSIDE)
        assert await bench.read(WORDS - 1, 1) == [bench.word(WORDS - 1)]
        await bench.works()

    bench.run(script)


KINDS = [
    *(fault for fault, _ in FAULTS.values()),
    *(Burst(response=SLVERR), Burst(response=DECERR), Burst(later=3000), Burst()),
]


@pytest.mark.parametrize("seed", range(6))
def test_random_faults_and_restarts(seed: int) -> None:
    """In every epoch between restarts one fault or none: no wrong word is passed on, what is missing is told, all ends well."""
    rng = random.Random(seed)
    bench = Bench(latency=rng.randrange(1, 12))

    async def script(bench: Bench) -> None:
        for _ in range(8):
            fault = rng.choice(KINDS)
            bench.slave.faults[len(bench.slave.reads) + rng.randrange(8)] = fault
            whole = True
            while whole and rng.random() < 0.8:
                address = rng.randrange(WORDS)
                length = rng.randint(1, WORDS - address)
                patient = rng.random() < 0.7
                got = await bench.read(address, length, AXIReader.QUIET + PATIENCE if patient else rng.randrange(1, 30))
                assert got == [bench.word(at) for at in range(address, address + len(got))]
                whole = len(got) == length
                assert whole or not patient or bench.read_failures or fault.later
            bench.slave.faults.clear()
            await bench.restart()
        await bench.works()

    bench.run(script)


def test_words() -> None:
    with pytest.raises(TritapeError, match=r"^words must be 1\.\.4294967296, not 0; a tape's addresses have 32 bits$"):
        AXIMemory(16, words=0)


def test_reads_ahead_until_the_fifo_is_full() -> None:
    """Nobody takes a line: bursts are asked for until the FIFO has no room, and no more."""
    unit = AXIReader(PORT_BITS, BURST, fifo_lines=4 * BURST)
    asked = []

    async def script(context: Any) -> None:
        context.set(unit.fetches.payload, {"line": 0, "count": 12 * BURST})
        context.set(unit.fetches.valid, 1)
        context.set(unit.axi.arready, 1)
        for _ in range(100):
            if context.get(unit.axi.arvalid):
                asked.append(context.get(unit.axi.arlen) + 1)
            await context.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()
    assert asked == 4 * [BURST]
