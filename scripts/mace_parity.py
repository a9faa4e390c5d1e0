"""Converted MACE models against mace-torch: docs/results/mace_parity.csv.

    python scripts/mace_parity.py [FOLDER ...]

A FOLDER holds cases, each with config.json, a state dict, reference.npz, and inputs.npz in it or beside it; by default
tests/fixtures/mace and, where it is there, ../shared/data. Differences are in eV, eV/Å and eV/Å^3, float64, on a CPU.
"""

import argparse
import csv
import math
import sys
from pathlib import Path

from mace_gaunt.interop.mace import from_state_dict
from mace_gaunt.interop.mace_files import read_files
from mace_gaunt.interop.mace_probe import INPUTS, QUANTITIES, REFERENCE, largest_differences

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = [ROOT / "tests" / "fixtures" / "mace", *(ROOT.parent / "shared" / "data").glob("mace_*")]
OUT = ROOT / "docs" / "results" / "mace_parity.csv"
LIMIT = 1e-8


def row_of(case: Path) -> dict[str, str]:
    """What a case is, and its largest differences over all structures and heads."""
    model = from_state_dict(*read_files(case))
    inputs = case if (case / INPUTS).is_file() else case.parent
    differences = largest_differences(model, case, inputs)
    settings = model.hyperparameters
    radial = settings["radial"]
    words = [
        model.metadata["converted_from"]["class"],
        f"{settings['num_channels']} channels, max_L {settings['max_L']}, max_ell {settings['max_ell']}",
        " + ".join(
            f"{kind} {order}" for kind, order in zip(settings["interaction"], settings["correlation"], strict=True)
        ),
        radial["basis"]["name"] + (f" {radial['transform']['name']}" if "transform" in radial else ""),
        *(["ZBL"] if settings["zbl"] else []),
        *([f"{len(model.heads)} heads"] if len(model.heads) > 1 else []),
    ]
    found = {name: "" if math.isnan(value) else f"{value:.1e}" for name, value in differences.items()}
    return {"case": case.name, "model": "; ".join(words), **found}


def main() -> int:
    """Write the table; fails where a difference is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=DEFAULT)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    cases = [path.parent for folder in options.folders for path in sorted(folder.glob(f"*/{REFERENCE}"))]
    rows = [row_of(case) for case in cases]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["case", "model", *QUANTITIES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print("  ".join(f"{row[name] or '-':>8}" for name in QUANTITIES), row["case"])
    worst = max(float(row[name]) for row in rows for name in QUANTITIES if row[name])
    print(f"largest of all: {worst:.1e}; limit {LIMIT:.0e}")
    return int(worst >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
