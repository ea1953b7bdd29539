"""What every floor stands on: errors, files written whole, the build cache, running tools, Verilog text."""
