"""Inference with packed ternary weights, on a GPU (Triton, one CUDA graph a token) and on a CPU."""
