"""Print what a quickstart run has made: `python scripts/quickstart_summary.py runs/quickstart`."""

import csv
import json
import sys
from pathlib import Path

COLUMNS = {
    "split": "split",
    "n_frames": "frames",
    "energy_rmse_meV_per_atom": "energy RMSE (meV/atom)",
    "forces_rmse_meV_A": "forces RMSE (meV/Å)",
}


def format_cell(text: str) -> str:
    """Numbers with a point get two decimals, everything else stays."""
    return f"{float(text):.2f}" if "." in text else text


def error_table(metrics_file: Path) -> str:
    """The errors of the evaluation as aligned text."""
    with metrics_file.open(newline="") as file:
        rows = [[format_cell(row[key]) for key in COLUMNS] for row in csv.DictReader(file)]
    rows.insert(0, list(COLUMNS.values()))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    """Print the table, the MD's health and where everything lies."""
    run = Path(sys.argv[1])
    health = json.loads((run / "md" / "health.json").read_text())
    print(f"\n{error_table(run / 'evaluation' / 'metrics.csv')}\n")
    print(
        f"MD of {health['time_ps']:.1f} ps: drift {health['drift_meV_per_atom_per_ps']:.3f} meV/atom/ps, "
        f"temperature {health['temperature_mean_K']:.0f} K, closest distance {health['closest_distance_A']:.2f} Å\n"
    )
    print(f"model       {run / 'model'}")
    print(f"trajectory  {run / 'md' / 'trajectory.extxyz'}")
    print(f"plots       {run / 'evaluation'}/parity_*.png")


if __name__ == "__main__":
    main()
