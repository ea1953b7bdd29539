"""From a configuration to files: Verilog, boards and their bitstreams, area and speed, design spaces, the report."""
