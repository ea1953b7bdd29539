"""A tape: its sections, the assembler that packs a checkpoint into one, the reader that unpacks it, and the file."""
