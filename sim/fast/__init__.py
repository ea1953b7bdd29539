"""The accelerator compiled by Verilator and driven from C++: what `tritape generate` and `perf` run."""
