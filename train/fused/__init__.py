"""The memory-saving training path: Triton kernels on a GPU, the same formulas in plain PyTorch elsewhere."""

from tritape.train.fused.layers import fused_loss

__all__ = ["fused_loss"]
