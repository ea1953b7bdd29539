"""Simulation: whole tokens in Verilator, benches of components, models of memories, boards without a board."""
