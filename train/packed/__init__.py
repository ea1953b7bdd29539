"""Inference with packed ternary weights, on a GPU (one kernel for many tokens) and on a CPU."""
