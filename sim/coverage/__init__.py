"""Line and toggle coverage of `hw/`'s Verilog by the tests. `make coverage`, docs/coverage.md."""
