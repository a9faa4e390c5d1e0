"""Which sides sit out larger problems, since a smaller one was too much for them."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from mace_gaunt.benchmark.peer.sides import Side
from mace_gaunt.benchmark.peer.turns import Contestant

Measure = tuple[float, ...]
"""What makes a problem large: channels, degrees and atoms."""


class Limits:
    """Remembers where each side ended.

    Args:
        seconds: Longest call (s); one that takes longer is the side's last.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends: dict[tuple[Side, str], list[tuple[Measure, str]]] = {}

    def reason(self, side: Side, what: str, problem: Mapping[str, Any]) -> str:
        """Why a side does not try a problem; empty when it does.

        Args:
            side: The side.
            what: The quantity.
            problem: See `problem.side_settings`.
        """
        size = measure(problem)
        for end, reason in self._ends.get((side, what), []):
            if all(here >= there for here, there in zip(size, end, strict=True)):
                return reason
        return ""

    def note(self, entrants: Iterable[Contestant], what: str, problem: Mapping[str, Any]) -> None:
        """Remember the sides for which a problem was too much.

        Args:
            entrants: The sides that tried it.
            what: The quantity.
            problem: See `problem.side_settings`.
        """
        for entrant in entrants:
            found = self._too_much(entrant, what)
            if found:
                reason = f"{found} at {tell_size(problem)}"
                self._ends.setdefault((entrant.side, what), []).append((measure(problem), reason))

    def _too_much(self, entrant: Contestant, what: str) -> str:
        if "build" in entrant.failed or what in entrant.failed:
            return "failed"
        median = statistics.median(seconds for turn in entrant.rounds[what] for seconds in turn)
        return f"{median:.3g} s a call" if median > self.seconds else ""


def measure(problem: Mapping[str, Any]) -> Measure:
    """A problem is larger than another when none of these is smaller."""
    return tuple(problem[name] for name in ("num_channels", "max_L", "max_ell", "nodes"))


def tell_size(problem: Mapping[str, Any]) -> str:
    """A problem in words."""
    return (
        f"{problem['num_channels']} channels, max_L {problem['max_L']}, max_ell {problem['max_ell']}, "
        f"{problem['nodes']:g} atoms, {problem['edges']:g} edges"
    )
