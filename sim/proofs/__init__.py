"""Proofs of the hardware (`make prove`, docs/verification.md): harnesses in Amaranth, given to solvers from PyPI.

They are part of the package, not of the tests, because who changes a unit or adds one proves it with the same harness:

    from tritape.sim.proofs.hold import Unit, rules
    from tritape.sim.proofs.solve import design, prove

    prove(design(rules(Unit(MyUnit))), 2, induction=True)

`hold`: the rules of streams, for any component. `units`: every component, how it is proved, or why not. `catalogue`: all proofs
and the faults that they find. `link`, `restart`, `sections`, `axi`, `order`, `engine`, `scalar`: properties of units. `inside`:
registers by name, for invariants. `broken`: a unit with a fault. `solve`: from a harness to a verdict. Needs the extra `test`.
"""
