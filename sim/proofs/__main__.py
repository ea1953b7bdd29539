"""`make prove`: run every proof and every fault that it must find, and print what came out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tritape.sim.proofs.catalogue import PROOFS, Proof
from tritape.sim.proofs.page import PAGE, write_page


def _row(proof: Proof, *, faults: bool) -> dict[str, object]:
    verdict = proof.run()
    row: dict[str, object] = {
        "name": proof.name,
        "property": proof.states,
        "assumption": proof.assumption,
        "method": proof.method if proof.bounded else f"induction, k = {verdict.depth}",
        "seconds": verdict.seconds,
        "proved": verdict.proved,
        "failed": verdict.failed,
        "trace": verdict.trace,
        "mutation": proof.mutation,
    }
    if faults:
        caught = proof.run_fault()
        row |= {"caught": not caught.proved and not caught.failed.startswith("no answer"), "caught_by": caught.failed}
    return row


def main() -> int:
    """Status 1 if a proof fails or a fault is not found."""
    parser = argparse.ArgumentParser(prog="python -m tritape.sim.proofs", description=__doc__)
    parser.add_argument("names", nargs="*", help="only proofs whose name contains one of these")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="only those that run in `make test`")
    parser.add_argument("--no-faults", action="store_true", help="do not run the units with faults")
    parser.add_argument("--page", action="store_true", help=f"write the table into {PAGE}")
    options = parser.parse_args()
    rows = []
    for proof in PROOFS:
        if (options.quick and not proof.quick) or (
            options.names and not any(name in proof.name for name in options.names)
        ):
            continue
        rows.append(row := _row(proof, faults=not options.no_faults))
        if not options.json:
            good = "proved" if row["proved"] else f"NOT PROVED: {row['failed']} {row['trace']}"
            found = "" if row.get("caught", True) else "  FAULT NOT FOUND"
            print(f"{proof.name:36} {row['method']!s:18} {row['seconds']:7} s  {good}{found}", flush=True)
    if options.json:
        print(json.dumps(rows, indent=2))
    if options.page:
        write_page(Path(PAGE), rows)
    return 0 if rows and all(row["proved"] and row.get("caught", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
