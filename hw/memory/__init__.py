"""Memory backends: each turns an accelerator's reads and writes of words into those of one kind of memory (docs/memory.md)."""
