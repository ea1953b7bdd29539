"""The simulator's side of test_hw_axi: AXIMemory between stalling streams and cocotbext-axi memories.

The job is {"groups", "ports", "port_bits", "seed", "restarts", "stall"}. The image lies at word 0, and after each restart
elsewhere, up to the highest lines and addresses that there are. The answer is what was counted.
"""

from __future__ import annotations

import json
import logging
import random
from collections import deque
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotbext.axi import AxiBus, AxiSlave

IMAGE_WORDS = 400
BASES = (0x10000, 0x83000, 0x4_0000_0000, 0x7F000)
ADDRESS_BITS = 40
AHEAD = 1 << 16  # bytes behind the image that a port may read ahead
QUIET = 200


class Region:
    """One port's memory; every line in `bad` fails."""

    def __init__(self, base: int, size: int) -> None:
        self.base, self.data = base, bytearray(size)
        self.bad: set[int] = set()
        self.endless = False  # zeros behind the image, else nobody may read there
        self.failed = 0

    def _at(self, address: int, size: int) -> int:
        at = address - self.base
        assert 0 <= at <= len(self.data) - size, f"access to {address:#x} is outside the image"
        return at

    async def read(self, address: int, size: int) -> bytes:
        if self.endless and address >= self.base + len(self.data):
            return bytes(size)
        at = self._at(address, size)
        if at // size in self.bad:
            self.failed += 1
            raise ValueError("bad line")
        return bytes(self.data[at : at + size])

    async def write(self, address: int, data: bytes) -> None:
        at = self._at(address, len(data))
        self.data[at : at + len(data)] = data


class Bench:
    def __init__(self, dut: Any, job: dict[str, Any]) -> None:
        self.dut, self.job = dut, job
        self.rng = random.Random(job["seed"])
        self.groups, self.ports, self.lane = job["groups"], job["ports"], job["port_bits"] // 8
        lines = -(-IMAGE_WORDS * self.groups // (self.lane * self.ports))
        self.regions = [Region(base, lines * self.lane) for base in BASES[: self.ports]]
        self.origin = 0
        """Address of the image's first word."""
        self.requests: deque[tuple[int, int]] = deque()
        self.expected: deque[tuple[int, int | None]] = deque()
        self.image = bytearray(lines * self.lane * self.ports)
        self.slaves = []
        logging.getLogger("cocotb.bench").setLevel("WARNING")
        for number, region in enumerate(self.regions):
            slave = AxiSlave(AxiBus.from_prefix(dut, f"axi_{number}"), dut.clk, dut.rst, target=region)
            if job["stall"]:
                for channel in (
                    slave.read_if.ar_channel, slave.read_if.r_channel, slave.write_if.aw_channel,
                    slave.write_if.w_channel, slave.write_if.b_channel,
                ):  # fmt: skip
                    channel.set_pause_generator(self._pauses(f"{job['seed']} {number} {type(channel).__name__}"))
            self.slaves.append(slave)
            cocotb.start_soon(self._check_bursts(number))

    @staticmethod
    def _pauses(seed: str):
        rng = random.Random(seed)
        while True:  # runs of random length: latency and back-pressure
            for pause in (True, False):
                for _ in range(rng.choice((1, 2, 3, 30, 90)) if pause else rng.choice((1, 4, 40, 100))):
                    yield pause

    async def _check_bursts(self, number: int) -> None:
        """Bursts are INCR, whole beats, within 4 KiB; a request stays unchanged until it is taken."""
        dut, name = self.dut, f"axi_{number}_ar"
        signals = {part: getattr(dut, name + part) for part in ("addr", "len", "size", "burst", "valid", "ready")}
        held = None
        while True:
            await RisingEdge(dut.clk)
            if not int(signals["valid"].value):
                assert held is None, "arvalid was taken back"
                continue
            address, length = int(signals["addr"].value), int(signals["len"].value) + 1
            assert held in (None, (address, length)), "AR changed while it was waiting"
            held = None if int(signals["ready"].value) else (address, length)
            assert int(signals["burst"].value) == 1
            assert 1 << int(signals["size"].value) == self.lane
            assert address % self.lane == 0
            assert address // 4096 == (address + length * self.lane - 1) // 4096, "burst crosses 4 KiB"

    def word(self, at: int) -> int:
        return int.from_bytes(self.image[at * self.groups : (at + 1) * self.groups], "little")

    def move(self, page: int, pattern: int) -> None:
        """Let the image begin so many pages of all ports behind word 0, and the ports' memories where `pattern` says."""
        page_words = 4096 * self.ports  # which are whole pages of every port
        at = page * page_words * self.groups // self.ports
        self.origin = page * page_words
        room = (1 << ADDRESS_BITS) - at - len(self.regions[0].data) - AHEAD
        for number, region in enumerate(self.regions):
            base = min((pattern ^ number << 12) & ((1 << ADDRESS_BITS) - 4096), room & -4096)
            getattr(self.dut, f"base_{number}").value = base
            region.base = base + at

    @property
    def words(self) -> int:
        """Words that 32 bits can address, of words and of lines."""
        return min(1 << 32, (self.lane * self.ports << 32) // self.groups)

    def ask_for_ever(self, length: int) -> None:
        """The whole image and far more, which a restart must end before the image is over."""
        self.ask(0, IMAGE_WORDS)
        self.requests[-1] = (self.origin, min(length, self.words - self.origin, 0xFFFF_FFFF))

    def ask(self, address: int, length: int) -> None:
        self.requests.append((self.origin + address, length))
        for at in range(address, address + length):
            lines = range(at * self.groups // self.lane, ((at + 1) * self.groups - 1) // self.lane + 1)
            bad = any(line // self.ports in self.regions[line % self.ports].bad for line in lines)
            self.expected.append((at, None if bad else self.word(at)))

    def load(self) -> None:
        """Put a random image in place, striped."""
        self.image[:] = self.rng.randbytes(len(self.image))
        for at in range(0, len(self.image), self.lane):
            stripe = at // self.lane
            to = stripe // self.ports * self.lane
            self.regions[stripe % self.ports].data[to : to + self.lane] = self.image[at : at + self.lane]

    async def write(self, addresses: list[int]) -> None:
        dut = self.dut
        for at in addresses:
            word = self.rng.getrandbits(8 * self.groups)
            self.image[at * self.groups : (at + 1) * self.groups] = word.to_bytes(self.groups, "little")
            dut.write_valid.value = 1
            dut.write_payload.value = self.origin + at | word << 32
            await RisingEdge(dut.clk)
            while not int(dut.write_ready.value):
                await RisingEdge(dut.clk)
            dut.write_valid.value = 0
            if self.rng.random() < 0.2:
                await RisingEdge(dut.clk)

    async def run(self, restart_after: int | None = None) -> int:
        """Until all that was asked for came, or a restart drops the rest; returns the cycles."""
        dut, rng, stall = self.dut, self.rng, self.job["stall"]
        ready, quiet, cycle, held = 0, 0, 0, None
        while quiet < QUIET:
            cycle += 1
            await RisingEdge(dut.clk)
            valid = int(dut.words_valid.value)
            if held is not None:
                assert valid, "words.valid was taken back"
                assert int(dut.words_payload.value) == held, "a word changed while it was waiting"
            held = int(dut.words_payload.value) if valid and not ready else None
            if valid and ready:
                assert self.expected, "a word that nobody asked for"
                at, word = self.expected.popleft()
                got = int(dut.words_payload.value)
                assert word is None or got == word, f"word {at}: expected {word:#x}, got {got:#x}"
            if int(dut.requests_valid.value) and int(dut.requests_ready.value):
                self.requests.popleft()
                dut.requests_valid.value = 0
                offered = False
            else:
                offered = bool(int(dut.requests_valid.value))
            if cycle == restart_after:
                dut.restart.value = 1
                dut.requests_valid.value = dut.words_ready.value = 0
                await RisingEdge(dut.clk)
                dut.restart.value = 0
                self.requests.clear()
                self.expected.clear()
                return cycle
            if self.requests and (offered or rng.random() >= stall):
                address, length = self.requests[0]
                dut.requests_payload.value = address | length << 32
                dut.requests_valid.value = 1
            ready = int(rng.random() >= stall)
            dut.words_ready.value = ready
            quiet = 0 if self.expected or self.requests else quiet + 1
            assert cycle < 100_000, f"{len(self.expected)} words never came"
        return cycle

    def ask_random(self, count: int) -> None:
        self.ask(0, 1)
        self.ask(IMAGE_WORDS - 1, 1)
        self.ask(5, 0)
        for _ in range(count):
            address = self.rng.randrange(IMAGE_WORDS)
            self.ask(address, self.rng.randint(0, min(120, IMAGE_WORDS - address)))


def image_of(bench: Bench) -> bytes:
    """What the ports' memories hold."""
    return b"".join(
        bytes(region.data[at : at + bench.lane])
        for at in range(0, len(bench.regions[0].data), bench.lane)
        for region in bench.regions
    )


@cocotb.test()
async def everything(dut: Any) -> None:
    job = json.loads(Path(cocotb.plusargs["job"]).read_text())
    for name in ("requests_valid", "requests_payload", "words_ready", "write_valid", "write_payload", "restart"):
        getattr(dut, name).value = 0
    for number, base in enumerate(BASES[: job["ports"]]):
        getattr(dut, f"base_{number}").value = base
    cocotb.start_soon(Clock(dut.clk, 10, "step").start())
    dut.rst.value = 1
    bench = Bench(dut, job)
    await Timer(100, "step")
    dut.rst.value = 0
    await RisingEdge(dut.clk)

    bench.load()
    await bench.write([*range(24), *(bench.rng.randrange(IMAGE_WORDS) for _ in range(8)), IMAGE_WORDS - 1])
    bench.ask_random(8)
    bench.ask(0, IMAGE_WORDS)  # offered while the last word is being written
    await bench.run()
    assert image_of(bench) == bench.image, "striped image"
    assert int(dut.errors.value) == 0

    for _ in range(job["restarts"]):
        bench.ask(0, IMAGE_WORDS)
        bench.ask_random(3)
        await bench.run(bench.rng.randrange(1, 400))
        bench.ask_random(2)
        await bench.run()

    ones, odd = (1 << ADDRESS_BITS) - 1, 0xAA_AAAA_A000
    last = bench.words // (4096 * bench.ports) - 1
    for page, pattern in ((0, 0), (last, ones), (0x2AAAA & last, odd), (0x15555 & last, odd >> 1)):
        for region in bench.regions:
            region.endless = True
        bench.move(page, pattern)
        bench.ask_for_ever(ones if page in (0, last) else pattern >> 7)
        await bench.run(bench.rng.randrange(100, 300))
        await bench.write([bench.rng.randrange(IMAGE_WORDS), IMAGE_WORDS - 1])
        bench.ask(1, 9)
        bench.ask(IMAGE_WORDS - 3, 3)
        await bench.run()
        for region in bench.regions:
            region.endless = False
    assert image_of(bench) == bench.image, "striped image"
    assert int(dut.errors.value) == 0

    before = [region.failed for region in bench.regions]
    for region in bench.regions:
        region.bad = {bench.rng.randrange(len(region.data) // bench.lane) for _ in range(9)}
    bench.ask(0, IMAGE_WORDS)
    await bench.run()
    failed = sum(region.failed for region in bench.regions) - sum(before)
    answer = {"errors": int(dut.errors.value), "failed": failed}
    Path(cocotb.plusargs["answer"]).write_text(json.dumps(answer))
