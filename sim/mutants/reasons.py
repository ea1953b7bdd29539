"""Mutants that nothing can notice, since they behave as the hardware does: their names, and why. docs/mutants.md lists them."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "599705294a": "the same hardware: of one row of RAMs an address has no bits that choose a row",
    "a70b5c2b29": "the same hardware: of u = 0 it takes -0",
    "ca80a717ea": "the same hardware: of one bank a select without bits takes the whole word",
    "6f9869ff6f": "the same behaviour: `filled` is set once more while it is set, or taken, which counts last",
    "dffd1f3a7a": "the same behaviour: a request is taken in the cycle that makes it, and the next one ends it as well",
    "30c8c2687d": "the same behaviour: of `level == last` both sides make 0",
    "f41db4f3f6": "the same values: the register is a bit wider than what it ever holds",
    "98b9b6c3b5": "the same behaviour: that line is not driven then",
    "9b95d2e523": "the same behaviour: e is 17 at most, so that step 4 is the last anyway",
    "23b4950590": "the same behaviour: it sets 0 to 0",
    "dbb415b605": "the same values: the memory takes the low 8 bits",
    "f795b02f48": "the same hardware: the number of one table has no bits",
    "8b036c2e58": "the same hardware: the name of a signal",
    "57d7b74483": "the same values: of equal numbers it takes the other",
    "b99a4b37c7": "the same behaviour: an age is 2 at most",
    "649038e5cf": "the same behaviour: it takes an equal maximum",
    "247404a95e": "the same behaviour: it begins at 0 with every access, and none has more than four bytes",
    "81aff74db0": "the same values: the register is a bit wider than what it ever holds",
    "172fbf3cb8": "the same behaviour: of 0 the product is 0 either way",
    "f4fe4a6dd7": "the same behaviour: e has two bits here",
    "283e93ec4d": "the same behaviour: it takes an equal maximum",
    "2e2c73d5dc": "the same behaviour: of equal numbers it takes the other",
    "558e2121ad": "the same values: the register is a bit wider than what it ever holds",
    "62b21269b0": "the same behaviour: a shift is 47 at most",
    "795d5f12c2": "the same behaviour: a section's number changes behind its header's last word, as late as that answer",
    "d6b89c36a1": "the same behaviour: a shift is 47 at most",
}
