"""The netlist of a board, as synthesised or as routed, as something that Verilator runs: what is loaded is what was tested."""
