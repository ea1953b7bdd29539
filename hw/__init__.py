"""The hardware in Amaranth: units by folder, the token loops that join them, and the accelerator with its host link."""
