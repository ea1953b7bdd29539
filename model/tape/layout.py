"""Words and sections of a tape, as docs/tape.md defines them, for whoever writes or reads one.

`program` lists the sections of a shape without any weights: the assembler fills them, the estimate counts them.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache

from tritape.base.errors import TritapeError
from tritape.model.codes import TERNARY5, WeightCode, code_numbered
from tritape.model.config import ModelConfig

VERSION = 3
MAGIC = 0x50415454  # "TTAP" little-endian
HEADER_BYTES = 32
HEADER_PAYLOAD_BYTES = 64
MIN_GROUPS = 4
MAX_GROUPS = 255
MAX_ENGINES = 255
MAX_ROWS = 0xFFFF  # of a block: a 16-bit field
CHECK = 0x54415045
"""XOR of the eight 32-bit words of a section's header."""

_HEADER = struct.Struct("<BBBBHHHH3s3s3sb6s")  # and the check
_PAYLOAD = struct.Struct("<IHHHHHHIIIIIIIB19x")


class Opcode(enum.IntEnum):
    """Instruction of a section."""

    HEADER = 1
    LOAD = 2
    PREP = 3
    EMBED = 4
    MATVEC = 5
    END = 6


class Target(enum.IntEnum):
    """Vector memory that a LOAD fills."""

    GAIN_FIRST = 0
    GAIN_PRODUCT = 1
    LOWER_BOUND = 2


class PrepMode(enum.IntEnum):
    """Where the vector of a PREP comes from."""

    READ = 0
    STORE = 1
    ACCUMULATE = 2


class MatvecMode(enum.IntEnum):
    """What happens to the row sums of a MATVEC."""

    I = 0
    F = 1
    G = 2
    GATE_UP = 3
    RESIDUAL = 4
    LOGITS = 5


def header_xor(data: bytes | memoryview) -> int:
    """XOR of the 32-bit words of `data`; `CHECK` for a whole section header."""
    result = 0
    for (word,) in struct.iter_unpack("<I", data):
        result ^= word
    return result


@dataclass(frozen=True)
class Section:
    """Header of a section, plus what the assembler needs to fill it: `what` names the projection or vector, such as
    `layers.0.i`; `row0` is the first slice of a MATVEC block. Field meanings and units: docs/tape.md."""

    opcode: Opcode
    mode: int = 0
    flags: int = 0
    shift: int = 0
    index: int = 0
    tiles: int = 0
    payload: int = 0
    length: int = 0
    rows: int = 0
    mantissa: int = 0
    base: int = 0
    eps: int = 0
    exponent: int = 0
    what: str = ""
    row0: int = 0

    def encode(self) -> bytes:
        """The 32 header bytes."""
        fields = _HEADER.pack(
            self.opcode, self.mode, self.flags, self.shift, self.index & 0xFFFF, self.tiles, self.rows, self.mantissa,
            *(value.to_bytes(3, "little") for value in (self.payload, self.length, self.base)),
            self.exponent, self.eps.to_bytes(6, "little"),
        )  # fmt: skip
        return fields + (header_xor(fields) ^ CHECK).to_bytes(4, "little")

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Section:
        """Parse 32 header bytes. Raises TritapeError for an opcode that does not exist, and a wrong check."""
        op, mode, flags, shift, index, tiles, rows, mantissa, payload, length, base, exponent, eps = _HEADER.unpack(
            data[: _HEADER.size]
        )
        if header_xor(data) != CHECK:
            raise TritapeError(
                f"check of section header {index} must make the XOR of its words {CHECK:#010x}, not {header_xor(data):#010x}; "
                "the tape is damaged: pack it again"
            )
        if op not in Opcode.__members__.values():
            raise TritapeError(f"opcode must be 1 to 6, not {op}; the tape is damaged: pack it again")
        return cls(
            Opcode(op), mode, flags, shift, index, tiles, int.from_bytes(payload, "little"),
            int.from_bytes(length, "little"), rows, mantissa, int.from_bytes(base, "little"),
            int.from_bytes(eps, "little"), exponent,
        )  # fmt: skip


@dataclass(frozen=True)
class HeaderPayload:
    """The 64 bytes behind the HEADER section: shape and addresses in words."""

    groups: int
    hidden: int
    intermediate: int
    layers: int
    rows: int
    vocab: int
    prologue_address: int
    prologue_words: int
    body_address: int
    body_words: int
    embedding_address: int
    row_words: int
    logit_fraction: int
    engines: int = 1
    code: int = 0
    """Number of the weight code."""
    magic: int = MAGIC
    version: int = VERSION

    def encode(self) -> bytes:
        """The 64 payload bytes."""
        return _PAYLOAD.pack(
            self.magic, self.version | self.code << 8, self.groups | self.engines - 1 << 8,
            self.hidden, self.intermediate, self.layers, self.rows, self.vocab,
            self.prologue_address, self.prologue_words, self.body_address, self.body_words, self.embedding_address,
            self.row_words, self.logit_fraction,
        )  # fmt: skip

    @property
    def geometry(self) -> Geometry:
        """Groups, engines and weight code. Raises TritapeError for a code that does not exist."""
        return Geometry(self.groups, self.engines, code_numbered(self.code))

    @classmethod
    def decode(cls, data: bytes | memoryview) -> HeaderPayload:
        """Parse 64 payload bytes; magic and version are not judged here."""
        fields = _PAYLOAD.unpack(data)
        (magic, version, size), rest = fields[:3], fields[3:]
        values = [size & 0xFF, *rest, (size >> 8) + 1, version >> 8, magic, version & 0xFF]
        return cls(*values)


@dataclass(frozen=True)
class Geometry:
    """Arithmetic of a tape for `engines` engines that take `groups` bytes of weights in `code`: words of E G bytes, of which
    each lane has G.

    Element j of every vector is element j // E of lane j mod E; lanes are padded to equal length, ceil(size / E).
    """

    groups: int
    engines: int = 1
    code: WeightCode = TERNARY5

    def __post_init__(self) -> None:
        if not isinstance(self.groups, int) or not MIN_GROUPS <= self.groups <= MAX_GROUPS:
            raise TritapeError(f"groups must be from {MIN_GROUPS} to {MAX_GROUPS}, not {self.groups!r}; try 16")
        if not isinstance(self.engines, int) or not 1 <= self.engines <= MAX_ENGINES:
            raise TritapeError(f"engines must be from 1 to {MAX_ENGINES}, not {self.engines!r}; try 1")
        if self.groups % self.engines:
            raise TritapeError(
                f"groups must be a multiple of the {self.engines} engines, not {self.groups}; try more groups"
            )
        self.code.check_geometry(self.groups, self.engines)

    @property
    def word_bytes(self) -> int:
        """Bytes of a word: E G."""
        return self.engines * self.groups

    @property
    def tile(self) -> int:
        """Activations of one tile: 5 G in ternary5."""
        return self.code.tile(self.groups)

    @property
    def header_words(self) -> int:
        """Words of a section header."""
        return self.words(HEADER_BYTES)

    @property
    def boot_words(self) -> int:
        """Words of the whole HEADER section."""
        return self.header_words + self.words(HEADER_PAYLOAD_BYTES) + 1

    def words(self, data_bytes: int) -> int:
        """Words that hold so many bytes."""
        return -(-data_bytes // self.word_bytes)

    def tiles(self, length: int) -> int:
        """Tiles that cover K = length (of all lanes)."""
        return -(-self.lane(length) // self.lane_tile)

    def vector_words(self, length: int) -> int:
        """Words of a vector of `length` 16-bit elements (of all lanes)."""
        return -(-self.lane(length) // (self.groups // 2))

    def row_words(self, hidden: int) -> int:
        """Words of one embedding row, CRC included."""
        return -(-self.lane(hidden) // self.groups) + 1

    def lane(self, size: int) -> int:
        """Elements of one lane of a vector of `size` elements, or slices of so many rows: ceil(size / E)."""
        return -(-size // self.engines)

    @property
    def lane_tile(self) -> int:
        """Activations of one lane in a tile: 5 G / E in ternary5."""
        return self.tile // self.engines

    def section_words(self, section: Section) -> int:
        """Words of a whole section: header, payload, CRC."""
        return self.header_words + section.payload + 1

    def pad(self, data: bytes) -> bytes:
        """`data` padded with zeros to whole words."""
        return data + bytes(-len(data) % self.word_bytes)

    def close(self, content: bytes, token: int = 0) -> bytes:
        """The bytes of a section, or of the embedding row of `token`, with its CRC word behind them. A row's CRC has the
        token's number on it, so that a row in another's place is told."""
        return content + self.pad(struct.pack("<I", zlib.crc32(content) ^ token))


@dataclass(frozen=True)
class _Shape:
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    vocab_size: int


def program(
    config: ModelConfig | _Shape, groups: int, max_rows: int, engines: int = 1, code: WeightCode = TERNARY5
) -> tuple[list[Section], list[Section]]:
    """(prologue, body) of a shape: every section in tape order, with sizes and flags but without constants.

    max_rows: rows a block may have, 2 to 65535. Raises TritapeError for groups or rows out of range.
    """
    shape = _Shape(config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.vocab_size)
    prologue, body = _program(shape, Geometry(groups, engines, code), max_rows)
    return list(prologue), list(body)


@lru_cache(maxsize=4)  # a design point asks for the same sections several times
def _program(shape: _Shape, geometry: Geometry, max_rows: int) -> tuple[list[Section], list[Section]]:
    if not 2 <= max_rows <= MAX_ROWS:
        raise TritapeError(f"rows a block must be from 2 to {MAX_ROWS}, not {max_rows!r}; try 1024")
    engines = geometry.engines
    pair = 2 * engines  # a block has whole slices, and gate with up
    if max_rows < pair:
        raise TritapeError(f"rows a block must be at least {pair} for {engines} engines, not {max_rows!r}; try 1024")
    builder = _Builder(geometry, max_rows // pair * 2)
    hidden, inner = shape.hidden_size, shape.intermediate_size
    builder.prepare("layers.0.i", hidden, PrepMode.STORE, 0)
    builder.add(Section(Opcode.EMBED, length=geometry.lane(hidden), what="embedding"))
    prologue = builder.take()
    for layer in range(shape.num_hidden_layers):
        name = f"layers.{layer}"
        base = layer * geometry.lane(hidden)
        builder.prepare(f"{name}.f", hidden, PrepMode.READ, 0, keep=True)
        builder.matvec(f"{name}.i", MatvecMode.I, hidden, hidden)
        builder.prepare(f"{name}.g", hidden, PrepMode.READ, 0, keep=True)
        builder.load(f"{name}.lower_bound", Target.LOWER_BOUND, hidden)
        builder.matvec(f"{name}.f", MatvecMode.F, hidden, hidden, base)
        builder.prepare(f"{name}.o", hidden, PrepMode.STORE, 1)
        builder.matvec(f"{name}.g", MatvecMode.G, hidden, hidden, base)
        builder.prepare(f"{name}.gate", hidden, PrepMode.ACCUMULATE, 0)
        builder.matvec(f"{name}.o", MatvecMode.RESIDUAL, hidden, hidden)
        builder.prepare(f"{name}.down", inner, PrepMode.STORE, 1)
        builder.matvec(f"{name}.gate", MatvecMode.GATE_UP, 2 * inner, hidden)
        last = layer == shape.num_hidden_layers - 1
        builder.prepare("head" if last else f"layers.{layer + 1}.i", hidden, PrepMode.ACCUMULATE, 0)
        builder.matvec(f"{name}.down", MatvecMode.RESIDUAL, hidden, inner)
    builder.matvec("head", MatvecMode.LOGITS, shape.vocab_size, hidden)
    builder.add(Section(Opcode.END))
    return prologue, builder.take()


def section_names(header: HeaderPayload) -> dict[int, str]:
    """Number of every section of a tape -> its opcode and what it holds, such as `MATVEC layers.3.down`; for messages."""
    shape = _Shape(header.hidden, header.intermediate, header.layers, header.vocab)
    code = code_numbered(header.code)
    prologue, body = program(shape, header.groups, max(header.rows, 2 * header.engines), header.engines, code)
    return {section.index & 0xFFFF: f"{section.opcode.name} {section.what}".strip() for section in prologue + body}


class _Builder:
    """Collects sections, alternating gain banks and numbering as it goes."""

    def __init__(self, geometry: Geometry, max_slices: int) -> None:
        self.geometry = geometry
        self.max_slices = max_slices
        self.sections: list[Section] = []
        self.index = 1  # 0 is HEADER
        self.bank = 0

    def add(self, section: Section) -> None:
        self.sections.append(replace(section, index=self.index))
        self.index += 1

    def take(self) -> list[Section]:
        sections, self.sections = self.sections, []
        return sections

    def load(self, what: str, target: Target, length: int, bank: int = 0) -> None:
        words = self.geometry.vector_words(length)
        self.add(
            Section(Opcode.LOAD, mode=target, flags=bank, payload=words, length=self.geometry.lane(length), what=what)
        )

    def prepare(self, what: str, length: int, mode: PrepMode, region: int, keep: bool = False) -> None:
        if not keep:
            self.load(f"{what}.gain_first", Target.GAIN_FIRST, length, self.bank)
        self.load(f"{what}.gain_product", Target.GAIN_PRODUCT, length, self.bank)
        flags = self.bank | region << 1 | keep << 2
        self.add(Section(Opcode.PREP, mode=mode, flags=flags, length=self.geometry.lane(length), what=what))
        self.bank ^= 1

    def matvec(self, what: str, mode: MatvecMode, rows: int, k: int, base: int = 0) -> None:
        tiles = self.geometry.tiles(k)
        slices = self.geometry.lane(rows // 2) * 2 if mode == MatvecMode.GATE_UP else self.geometry.lane(rows)
        for row0 in range(0, slices, self.max_slices):
            block = min(self.max_slices, slices - row0)
            flags = (row0 == 0) | (row0 + block == slices) << 1
            self.add(
                Section(
                    Opcode.MATVEC,
                    mode=mode,
                    flags=flags,
                    tiles=tiles,
                    payload=tiles * block,
                    length=rows if mode == MatvecMode.LOGITS else slices,
                    rows=block,
                    base=base,
                    what=what,
                    row0=row0,
                )
            )


def ideal_cycles(config: ModelConfig, word_bytes: int, code: WeightCode = TERNARY5) -> float:
    """Cycles of the roofline: bytes of the ternary weights, a fifth of their number in ternary5, a word a cycle. Source: the
    definition in docs/architecture.md."""
    return ternary_weights(config) / code.weights_a_byte / word_bytes


def ternary_weights(config: ModelConfig) -> int:
    """Ternary weights that one token reads: every BitLinear, LM head included."""
    hidden, inner = config.hidden_size, config.intermediate_size
    return config.num_hidden_layers * (4 * hidden * hidden + 3 * hidden * inner) + config.vocab_size * hidden


def image_words(config: ModelConfig, groups: int, max_rows: int, engines: int = 1, code: WeightCode = TERNARY5) -> int:
    """Words of the whole memory image."""
    geometry = Geometry(groups, engines, code)

    def sections(layers: int) -> int:
        shape = _Shape(config.hidden_size, config.intermediate_size, layers, config.vocab_size)
        prologue, body = program(shape, groups, max_rows, engines, code)
        return sum(geometry.section_words(section) for section in prologue + body)

    one = sections(1)
    layer = sections(2) - one  # the same for every layer: many shapes are tried where the largest is sought
    words = geometry.boot_words + one + (config.num_hidden_layers - 1) * layer
    return words + config.vocab_size * geometry.row_words(config.hidden_size)
