"""Amaranth's Yosys in this process: the text that Amaranth's own call gives, and errors with Yosys' words."""

import pytest
from amaranth.back import rtlil, verilog

from tritape.base import verilog_text
from tritape.base.errors import TritapeError
from tritape.base.yosys import run_script
from tritape.hw.stream.skid import Skid


def test_the_text_is_that_of_amaranth():
    text = rtlil.convert(Skid(8), name="top", emit_src=False)
    wanted = verilog.convert(Skid(8), name="top", emit_src=False, strip_internal_attrs=True)
    assert run_script(verilog_text._SCRIPT.format(text)) == wanted


def test_an_error_has_the_words_of_yosys():
    with pytest.raises(
        TritapeError, match=r"^RTLIL must become Verilog, not fail: ERROR: Parser error in line 1: syntax"
    ):
        run_script("read_rtlil <<rtlil\nnonsense\nrtlil\n")
