"""tritape: a MatMul-free language model checkpoint in, an FPGA accelerator and bit-exact text out.

The packages are links to the folders at the top of the tree (docs/decisions/0008-folder-of-links.md).
"""
