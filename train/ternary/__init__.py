"""Ternary matrices in PyTorch at 1.6 bits a weight: their format, and Triton kernels for it on a GPU."""
