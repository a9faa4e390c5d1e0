"""What the content of a store depends on beside its sources."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.errors import UserError

# Without a given size: at least so many shards, of at least and at most so many records. Enough for many processes, and
# one of 8192 frames of OC20 is some 22 MB.
LEAST_SHARDS, LEAST_RECORDS, MOST_RECORDS = 64, 100, 8192


@dataclass(frozen=True)
class Settings:
    """Settings of a store.

    Attributes:
        r_max: Cut-off of the neighbour lists (Å); all neighbours within it.
        energy_reference: "total", "adsorption" or "linear".
        linear_reference: Of energy_reference="linear": atomic number -> energy (eV), None to fit it here.
        energy_key: See `LabelKeys`.
        forces_key: See `LabelKeys`.
        stress_key: See `LabelKeys`.
        shard_size: Records of a shard, bad ones included.
    """

    r_max: float
    energy_reference: str
    linear_reference: dict[int, float] | None = None
    energy_key: str | None = "auto"
    forces_key: str | None = "auto"
    stress_key: str | None = "auto"
    shard_size: int = MOST_RECORDS

    @property
    def keys(self) -> LabelKeys:
        """Where the labels are."""
        return LabelKeys(self.energy_key, self.forces_key, self.stress_key)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(self)
        if self.linear_reference is not None:
            values["linear_reference"] = {str(number): energy for number, energy in self.linear_reference.items()}
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Settings":
        """From what `to_json` gave."""
        linear = values["linear_reference"]
        if linear is not None:
            linear = {int(number): float(energy) for number, energy in linear.items()}
        return cls(**values | {"linear_reference": linear})

    def differences(self, other: "Settings", with_fit: bool = True) -> list[str]:
        """What differs.

        Args:
            other: Settings of a store that is there.
            with_fit: Whether a linear reference differs from another and from total energies; shards are the same.

        Returns:
            A few words on each difference.
        """
        mine, theirs = self.to_json(), other.to_json()
        if not with_fit:
            for values in (mine, theirs):
                values["linear_reference"] = None
                values["energy_reference"] = values["energy_reference"].replace("linear", "total")
        return [
            f"{name} differs" if name == "linear_reference" else f"{name} is {mine[name]}, there {theirs[name]}"
            for name in mine
            if mine[name] != theirs[name]
        ]


def check_r_max(r_max: float) -> float:
    """The cut-off as a number.

    Raises:
        UserError: If it is no positive length.
    """
    if isinstance(r_max, bool) or not isinstance(r_max, (int, float)) or not 0 < r_max < math.inf:
        raise UserError(f"r_max is a positive length in Å, not {r_max}.")
    return float(r_max)


def automatic_shard_size(n_records: int) -> int:
    """Records of a shard when the user gives no number; a function of the number of records alone."""
    return min(max(math.ceil(n_records / LEAST_SHARDS), LEAST_RECORDS), MOST_RECORDS)
