"""The table of coverage: lines and toggles of a unit add up over benches and sizes; what nobody named or wrote is left out."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tritape.sim.coverage.report import Hits, Verilog, _holes, explained, main, read, share, table

VERILOG = """\
(* src = "/somewhere/hw/norm/unit.py:10" *)
module \\dut.unit (clk, go, count);
  (* src = "/somewhere/hw/norm/unit.py:11" *)
  reg [SIZE:0] count;
  wire \\$1 ;
  always @* begin
    if (\\$auto$verilog_backend.cc:1:dump_module$1 ) begin end
    (* src = "/somewhere/hw/norm/unit.py:12" *)
    casez (go)
      1'h1: \\$1 = 1;
      1'h0: \\$1 = 0;
    endcase
  end
endmodule
(* src = "/lib/site-packages/amaranth/lib/fifo.py:10" *)
module fifo(clk);
  wire level;
endmodule
module bench(clk, drive);
  wire observe;
endmodule
"""


def counts(folder: Path, name: str, size: int, points: list[tuple[str, int, str, int]]) -> None:
    """A run: (kind, line, what, how often) of every point."""
    entry = folder / "cache" / (f"{size:032x}")
    entry.mkdir(parents=True, exist_ok=True)
    (entry / "model.v").write_text(VERILOG.replace("SIZE", str(size)))
    lines = ["# SystemC::Coverage-3"]
    for kind, line, what, times in points:
        place = f"\1f\2{entry}.x1y2/model.v\1l\2{line}\1n\0021\1t\2{kind}\1page\2v_{kind}/dut\1o\2{what}\1h\2bench.dut"
        block = "" if kind == "toggle" else f"\1S\2{line}"
        lines.append(f"C '{place}{block}' {times}")
    (folder / f"{name}.dat").write_text("\n".join(lines) + "\n")


def test_points_of_a_unit_add_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [("toggle", 4, f"count[{bit}]:{way}", 0) for bit in range(2) for way in ("0->1", "1->0")]
    others = [
        ("toggle", 5, "__0241:0->1", 0),
        ("toggle", 5, "port__02412__0240[3]:0->1", 0),
        ("toggle", 17, "level:0->1", 0),
        ("toggle", 20, "observe:0->1", 0),
    ]
    idle = [("branch", 7, "if", 0)]
    counts(
        tmp_path,
        "a",
        1,
        [
            *turns[1:],
            ("toggle", 4, "count[0]:0->1", 3),
            ("line", 10, "case", 1),
            ("line", 11, "case", 0),
            *others,
            *idle,
        ],
    )
    counts(
        tmp_path,
        "b",
        2,
        [*turns[:-1], ("toggle", 4, "count[2]:0->1", 1), ("line", 10, "case", 0), ("line", 11, "case", 0)],
    )
    hits: dict[str, Hits] = defaultdict(dict)
    for path in sorted(tmp_path.glob("*.dat")):
        read(path, hits)
    assert table(hits) == {
        "norm/unit.py": {"line": (1, 2), "toggle": (2, 5)},
        "all": {"line": (1, 2), "toggle": (2, 5)},
    }
    monkeypatch.setattr(
        "sys.argv", ["report", str(tmp_path), "--out", str(tmp_path / "out.json"), "--holes", "norm/", "--markdown"]
    )
    assert main() == 1  # below the bars
    out = capsys.readouterr().out
    assert "norm/unit.py:12 | 1'h0: $= 0; | 1" in out
    assert "count (norm/unit.py:11): bits 0-1\n" in out
    assert json.loads((tmp_path / "out.json").read_text())["units"]["all"]["toggle"] == {"covered": 2, "points": 5}


def test_a_signal_has_one_name_in_every_design() -> None:
    """Amaranth's numbers depend on the design: namesakes are known by the line that makes them, then by their order."""
    text = """\
module \\top.a (clk, base);
  (* src = "/x/hw/memory/a.py:5" *)
  input [3:0] base;
  wire [3:0] base;
  (* src = "/x/hw/memory/a.py:9" *)
  wire [3:0] \\base$SECOND ;
  (* src = "/x/hw/memory/a.py:9" *)
  reg \\base$FIRST  = 1'h0;
  (* src = "/x/hw/memory/a.py:9" *)
  wire signed [1:0] \\base$SECOND[1].low ;
endmodule
module \\top.b (clk);
  (* src = "/x/hw/memory/a.py:9" *)
  wire base;
endmodule
"""
    for first, second in ((12, 101), (3, 7)):
        verilog = Verilog(text.replace("FIRST", str(first)).replace("SECOND", str(second)))
        assert [verilog.signal(at) for at in (2, 3)] == ["base (memory/a.py:5)"] * 2
        assert [verilog.signal(at) for at in (7, 5)] == ["base (memory/a.py:9)", "base$2 (memory/a.py:9)"]
        assert verilog.signal(9) == "base$2[1].low (memory/a.py:9)"
        assert verilog.signal(13) == "base (memory/a.py:9)"


def test_only_what_cannot_turn_is_explained() -> None:
    names = {
        "tokens (counters.py:46)[24]": 1, "tokens (counters.py:46)[23]": 0, "axi__3__arcache$2 (memory/axi_bus.py:17)[0]": 1,
        "axi__araddr (memory/axi_bus.py:17)[30]": 0, "arburst (memory/axi_bus.py:17)[1]": 1,
    }  # fmt: skip
    missed = {("toggle", f"{name}:0->1"): 0 for name in names}
    reached = {("toggle", "running (counters.py:46)[30]:0->1"): 2, ("line", "counters.py:46", "x", "1"): 0}
    found = explained({"memory/axi.py": missed | reached})
    assert (sum(found.values()), sorted(found.values())[-2:]) == (sum(names.values()), [1, 2])
    flash = {
        "write__payload.word (memory/qspi.py:88)[3]:0->1",
        "write__valid$2 ():1->0",
        "requests__payload (x:1)[3]:0->1",
    }
    found = explained({"memory/flash_start.py": {("toggle", name): 0 for name in flash}, "memory/qspi.py": missed})
    assert max(found.values()) == 2


def test_nothing_has_no_share() -> None:
    assert share(0, 0) == "-"
    assert share(1, 3) == "33.3"


def test_a_small_memory_keeps_its_row():
    hits: Hits = {("toggle", "top.words[0][3]:0->1"): 0, ("toggle", "top.x:1->0"): 0, ("toggle", "top.x:0->1"): 1}
    assert _holes(hits) == ["top.words[0]: bits 3", "top.x: bits 0"]
