"""Mutants of `hw/`: which single edits of the hardware no test notices. `make mutants`, docs/mutants.md."""
