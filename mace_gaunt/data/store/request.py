"""What a user asks of `data prepare`, and the settings that follow from it and from the files."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.store.energies import common_reference, read_linear_reference
from mace_gaunt.data.store.settings import Settings, automatic_shard_size, check_r_max
from mace_gaunt.data.store.survey import SourceEntry
from mace_gaunt.errors import UserError, nearest

log = logging.getLogger(__name__)

ON_BAD_FRAME = ("stop", "skip")


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        paths: Files and folders of structures.
        out: Folder of the store.
        r_max: Cut-off of the neighbour lists (Å).
        energy_reference: "total", "adsorption", "linear", or None for what the files tell.
        linear_reference: File of energies per element for "linear"; None fits them.
        keys: Where the labels are.
        shard_size: Records of a shard; None chooses by their number.
        on_bad_frame: "stop" at the first bad record, or "skip" and count them.
        overwrite: Whether a store that is there is made anew.
    """

    paths: Sequence[str | Path]
    out: str | Path
    r_max: float
    energy_reference: str | None = None
    linear_reference: str | Path | None = None
    keys: LabelKeys = LabelKeys()  # noqa: RUF009 - it is frozen
    shard_size: int | None = None
    on_bad_frame: str = "stop"
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what can be refused without a look at any file.

        Raises:
            UserError: Names the value.
        """
        check_r_max(self.r_max)
        common_reference([], self.energy_reference)
        if self.linear_reference is not None and self.energy_reference != "linear":
            raise UserError("linear_reference= belongs to energy_reference=linear.")
        if self.on_bad_frame not in ON_BAD_FRAME:
            raise UserError(
                f"on_bad_frame={self.on_bad_frame} is not possible.{nearest(self.on_bad_frame, ON_BAD_FRAME)}"
            )
        if self.shard_size is not None and self.shard_size < 1:
            raise UserError(f"shard_size is a number of records, at least 1, not {self.shard_size}.")

    def settings(self, sources: Sequence[SourceEntry]) -> Settings:
        """The settings of the store.

        Args:
            sources: What it is made from.

        Raises:
            UserError: If the sources have no common energy reference, or the linear one cannot be read.
        """
        told = {source.energy_reference for source in sources}
        reference = common_reference(told, self.energy_reference)
        if self.energy_reference is None and told == {None}:
            log.warning("no file tells what its energies refer to: energy_reference=total is assumed")
        linear = None if self.linear_reference is None else read_linear_reference(self.linear_reference)
        n_records = sum(source.records for source in sources)
        return Settings(
            r_max=check_r_max(self.r_max),
            energy_reference=reference,
            linear_reference=linear,
            energy_key=self.keys.energy,
            forces_key=self.keys.forces,
            stress_key=self.keys.stress,
            shard_size=self.shard_size or automatic_shard_size(n_records),
        )
