"""`mace-gaunt evaluate relax=true`: IS2RE and IS2RS by relaxation."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ase

from mace_gaunt.cli.build import build, is_oc20
from mace_gaunt.cli.compose import Composed
from mace_gaunt.cli.evaluate import default_out
from mace_gaunt.cli.submissions import open_relaxed
from mace_gaunt.data.atomic_data import identifier
from mace_gaunt.data.first_structures import first_structures
from mace_gaunt.data.store.energies import record_energies
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.relaxation_report import FILE, relaxation_report
from mace_gaunt.evaluation.relaxations import Settings
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.graphs import checked_graph
from mace_gaunt.simulation.output import check_output


def relax_splits(composed: Composed, validate_only: bool = False) -> list[dict[str, Any]]:
    """Relax the first structures of the test splits.

    Args:
        composed: The checked configuration.
        validate_only: Whether to stop before anything is relaxed.

    Returns:
        Rows of the splits, and their mean where there are several; empty when only validated.

    Raises:
        UserError: If the model, the data or the folder is not as it must be; then nothing is written.
    """
    config = composed.config
    if not is_oc20(config.data) or config.data.task != "is2re":
        raise UserError("relax=true relaxes the first structures of IS2RE: give data=oc20 data.task=is2re.")
    if config.compile == "on":
        raise UserError("relax=true computes one structure after the other, eagerly: leave compile=on out.")
    settings = Settings(config.optimizer, config.fmax, config.steps)
    calculator = MaceGauntCalculator(
        config.model, device=config.device, dtype=config.dtype, kernel=config.kernel, head=config.head
    )
    out = Path(config.out) if config.out else default_out(composed)
    out = check_output(out, [FILE], config.overwrite)
    data = build(
        config.data,
        "data",
        r_max=calculator.model.r_max,
        statistics={"atomic_numbers": calculator.model.atomic_numbers},
    )
    files = data.test_files()
    if not files:
        raise UserError("there is nothing to relax: give data.root=DIR, or data.test_file=FILE.")
    submissions = open_relaxed(config, data)
    splits = {name: first_structures(file) for name, file in files.items()}
    for name, file in files.items():
        check_records(name, first_structures(file)[1], calculator, data.energy_reference)
    if validate_only:
        listed = ", ".join(f"{name} ({count} systems)" for name, (count, _) in splits.items())
        print(f"valid: everything is ready; would relax {listed}; nothing was written")
        return []
    (out / FILE).unlink(missing_ok=True)  # of an earlier run; relaxing takes hours, and may be stopped
    rows = relaxation_report(
        splits, calculator, data.energy_reference, settings, out, submissions=list(submissions.values())
    )
    print(f"report  {out}")
    for path, submission in submissions.items():
        print(f"leaderboard  {submission.write(path)}")
    return rows


def check_records(
    split: str, records: Iterable[ase.Atoms], calculator: MaceGauntCalculator, energy_reference: str
) -> None:
    """Read all records of a split before the first one is relaxed: a bad one at the end would cost hours.

    Args:
        split: Its name.
        records: First structures.
        calculator: The model.
        energy_reference: What its energies are.

    Raises:
        UserError: If a record is bad, cannot be computed, or has energies of another reference; names it.
    """
    model, reach = calculator.model, calculator.neighbors.r_max + calculator.neighbors.skin
    for index, atoms in enumerate(records):
        sid = identifier(atoms, "sid")
        try:
            record_energies(atoms, math.nan, energy_reference)
            checked_graph(atoms, reach, model.atomic_numbers)
        except UserError as error:
            raise UserError(f"{split}, structure {index} (sid {sid}): {error}") from error
