"""Verilog of which a simulator has less to do: what only a register loads is worked out in the register's own process.

In the text that Yosys writes, the next value of a register is a signal with a combinational process of its own, and the register
loads it:

    always @* begin                          always @(posedge clk) begin
      if (initial_trigger) begin end           if (enable) begin
      \\$3  = count;                              count <= \\$2 ;
      if (enable) begin               ->        end
        \\$3  = \\$2 ;                          end
      end
    end
    always @(posedge clk)
      count <= \\$3 ;

On the left Verilator stores the signal in every cycle, and copies it in the next; on the right a register that keeps its value
costs nothing, and what it loads is not worked out again because an input of the design changed.
"""

from __future__ import annotations

import re
from collections import Counter

_MODULE = re.compile(r"^module .*?^endmodule$", re.MULTILINE | re.DOTALL)
_PROCESS = re.compile(r"^  always @\* begin\n    if \(initial_trigger\) begin end\n(?P<body>.*?)^  end\n", re.M | re.S)
_LOAD = re.compile(r"^  always @\(posedge clk\)\n    (?P<register>\S+) +<= (?P<next>\S+) *;\n", re.MULTILINE)
_NAME = re.compile(r"\\\S+|[A-Za-z_$][\w$]*")
_ASSIGNMENT = re.compile(
    r"^(?P<indent> +)(?P<name>\\\S+|[A-Za-z_]\w*)(?P<part> *(?:\[[^]\n]*\] *)?)= (?P<value>.*;)\n", re.M
)


def clocked(verilog: str) -> str:
    """The Verilog text that `verilog_text` wrote, with registers that work out their next value; cycles and values are the same.

    Left as they are: next values that something else reads too, and all text of another form.
    """
    return _MODULE.sub(lambda module: _module(module[0]), verilog)


def _module(text: str) -> str:
    uses = Counter(_NAME.findall(text))
    loads = {load["next"]: load["register"] for load in _LOAD.finditer(text)}
    merged = set()

    def process(match: re.Match[str]) -> str:
        body = match["body"]
        names = {assignment["name"] for assignment in _ASSIGNMENT.finditer(body)}
        name = names.pop() if len(names) == 1 else ""
        inside = len(_ASSIGNMENT.findall(body))
        # its declaration, its process, the register: nobody else reads it, and it does not read itself
        if name not in loads or uses[name] != inside + 2 or _NAME.findall(body).count(name) != inside:
            return match[0]
        merged.add(name)
        register = loads[name] + " "  # the blank ends an escaped name

        def load(assignment: re.Match[str]) -> str:
            if assignment.start() == 0 and assignment["value"].rstrip(" ;") == loads[name]:
                return ""  # keeps its value
            return f"{assignment['indent']}{register}{assignment['part']}<= {assignment['value']}\n"

        return f"  always @(posedge clk) begin\n{_ASSIGNMENT.sub(load, body)}  end\n"

    text = _PROCESS.sub(process, text)
    return _LOAD.sub(lambda load: "" if load["next"] in merged else load[0], text)
