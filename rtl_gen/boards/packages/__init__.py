"""Packages for vendor tools around an accelerator on a bus: Vivado block designs, Vitis kernels."""
