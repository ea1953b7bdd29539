"""Corpora from packages of the ordinary registries: where they are, how they are read, how they are split."""
