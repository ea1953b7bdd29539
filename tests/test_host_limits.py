"""Tapes that do not fit a bitstream are refused by name, with the cure."""

from __future__ import annotations

import dataclasses

import pytest

from tritape.base.errors import TritapeError
from tritape.host.limits import check_limits
from tritape.host.protocol import PROTOCOL_VERSION, Identity
from tritape.model.tape.layout import HeaderPayload

IDENTITY = Identity(PROTOCOL_VERSION, 1, 16, 128, 512, 4, 1024, 512, 1000)
HEADER = HeaderPayload(
    groups=16, hidden=128, intermediate=512, layers=4, rows=1024, vocab=512, prologue_address=0, prologue_words=0,
    body_address=0, body_words=0, embedding_address=0, row_words=0, logit_fraction=0,
)  # fmt: skip


def test_a_tape_at_every_limit_fits():
    check_limits(IDENTITY, HEADER, 16_000, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 8}, "x: groups of the tape must be 16, not 8; pack it with --groups 16"),
        ({"rows": 2048}, "rows a block must be at most 1024 on this bitstream, not 2048; pack it with --rows 1024"),
        ({"hidden": 129}, "hidden size must be at most 128 on this bitstream, not 129; choose a smaller model"),
        ({"intermediate": 513}, "intermediate size must be at most 512"),
        ({"layers": 5}, "layers must be at most 4"),
        ({"vocab": 513}, "vocabulary must be at most 512"),
    ],
)
def test_limits(change, message):
    with pytest.raises(TritapeError, match=message):
        check_limits(IDENTITY, dataclasses.replace(HEADER, **change), 100, "x")


def test_memory():
    with pytest.raises(
        TritapeError, match="tape must have at most 16000 bytes on this board, not 16001; choose a smaller"
    ):
        check_limits(IDENTITY, HEADER, 16_001, "x")
