"""How `token.cu` shares a model among the blocks of a card: its compile-time constants, and the memory that it needs.

Blocks own equal numbers of rows, a multiple of 4. A product
takes GROUP rows of 16 / GROUP parts of the columns at once; the group is the one that computes the fewest zeros. Weights
pass through a ring of SLOTS slots in shared memory, a chunk of rows each.
"""

from __future__ import annotations

from dataclasses import dataclass

from tritape.base.errors import TritapeError
from tritape.model.config import ModelConfig
from tritape.train.ternary.matrix import row_bytes

WARPS = 13
"""Warps of a block that compute, the last one sums; one more fetches."""

AHEAD = 6
"""Slots that there should be at least: a layer and one."""

DELAYS = {"MIXER": 730, "OUT": 830, "GATE": 830, "DOWN": 830, "HEAD": 830}
"""Cycles, and hidden / 8 more, from the end of a product to the first read of its results by the next one, named here.

Sooner, reading slows down those that still write. Tuned on an H100, as is what follows.
"""

SUMS_LATER = 450
"""Cycles by which sums of squares are read later than the vectors: they are needed only when the products are done."""

RESERVED = 1024
"""Bytes of shared memory for what is small, and for reading past the last slot's end."""


@dataclass(frozen=True)
class Product:
    """Rows of a matrix, or of several below one another, that a block multiplies; `unit` divides into whole groups."""

    name: str
    rows: int
    columns: int
    unit: int

    @property
    def group(self) -> int:
        """Rows of an mma."""

        def work(group: int) -> int:
            splits = 16 // group
            return -(-self._pieces // splits) * splits

        return min((group for group in (4, 8, 16) if self.unit % group == 0), key=work)

    @property
    def stride(self) -> int:
        """Bytes from row to row in a slot: an odd number of 32."""
        return 32 * (self._pieces | 1)

    @property
    def plane(self) -> int:
        """Bytes from one digit's inputs to the next one's."""
        return -(-row_bytes(self.columns) // 128) * 128 + 64

    @property
    def _pieces(self) -> int:
        return -(-row_bytes(self.columns) // 32)

    def chunk(self, size: int) -> int:
        """Rows of a chunk in a slot of `size` bytes, all chunks alike but the last; 0 where no group fits."""
        most = size // self.stride // self.group * self.group
        if most == 0:
            return 0
        groups, chunks = self.rows // self.group, -(-self.rows // most)
        return -(-groups // chunks) * self.group


@dataclass(frozen=True)
class Shares:
    """constants: what `token.cu` is compiled with; shared: bytes of its ring; exchange: words of 32 bits between blocks."""

    constants: dict[str, int]
    shared: int
    exchange: int


def shares(config: ModelConfig, processors: int, limit: int, warps: int = WARPS) -> Shares:
    """For a card of so many multiprocessors and `limit` bytes of shared memory a block.

    Raises TritapeError where not one group of rows fits.
    """
    hidden, inner, vocab = config.hidden_size, config.intermediate_size, config.vocab_size
    own, own_inner = 4 * -(-hidden // (4 * processors)), 4 * -(-inner // (4 * processors))
    blocks = max(-(-hidden // own), -(-inner // own_inner))
    own_vocab = 4 * -(-vocab // (4 * blocks))
    products = (
        Product("MIXER", 3 * own, hidden, own),
        Product("OUT", own, hidden, own),
        Product("GATE", 2 * own_inner, hidden, 2 * own_inner),
        Product("DOWN", own, inner, own),
        Product("HEAD", own_vocab, hidden, own_vocab),
    )
    sums = 4 * max(product.rows for product in products)
    free = limit - RESERVED - 18 * products[0].plane - 6 * products[3].plane - sums
    size, slots = _ring(products, free)
    constants = {
        "HIDDEN": hidden, "INNER": inner, "VOCAB": vocab, "LAYERS": config.num_hidden_layers, "BLOCKS": blocks,
        "HIDDEN_ROWS": own, "INNER_ROWS": own_inner, "VOCAB_ROWS": own_vocab, "WARPS": warps, "SLOTS": slots, "SLOT_BYTES": size,
        "SUMS_LATER": SUMS_LATER,
    }  # fmt: skip
    for product in products:
        constants[f"{product.name}_GROUP"], constants[f"{product.name}_CHUNK"] = product.group, product.chunk(size)
        constants[f"{product.name}_DELAY"] = DELAYS[product.name] + hidden // 8
    warps_of_rows = 4 * _padded(blocks * -(-own // 32)) + _padded(blocks * -(-own_inner // 32))
    words = _padded(blocks * (4 * own + own_inner) + warps_of_rows) + 2 * blocks
    shared = 18 * products[0].plane + 6 * products[3].plane + sums + RESERVED + slots * (size + 16)
    constants["SHARED"] = shared
    return Shares(constants, shared, _padded(words))


def _ring(products: tuple[Product, ...], free: int) -> tuple[int, int]:
    """(bytes of a slot, slots): the fewest chunks a layer among those with `AHEAD` slots, else the most slots."""
    best: tuple[tuple[int, int], int] | None = None
    for product in products:
        for chunks in range(1, product.rows // product.group + 1):
            size = -(-product.rows // (chunks * product.group)) * product.group * product.stride
            if size > free or not all(each.chunk(size) for each in products):
                continue
            layer = sum(-(-each.rows // each.chunk(size)) for each in products[:-1])
            slots = free // (size + 16)
            rank = (max(0, AHEAD - slots), layer)
            if best is None or (rank, size) < best:
                best = (rank, size)
    if best is None:
        raise TritapeError(
            f"a block's shared memory must hold {max(each.group * each.stride for each in products)} bytes of weights, "
            f"not {free}; use PackedModel.step"
        )
    return best[1], min(32, free // (best[1] + 16))


def _padded(words: int) -> int:
    return -(-words // 32) * 32
