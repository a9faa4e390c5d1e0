"""Speed and memory of the groups of a comparison: which members stand for them, and on what structures."""

from typing import Any

from mace_gaunt.cli.compare_plan import Comparison
from mace_gaunt.cli.request import load_yaml
from mace_gaunt.comparison.measure import Runner, Speed, batch_size_of, measure_speed, settings_of
from mace_gaunt.comparison.members import FINISHED, PEER, Member, state_of

COMPILED_LINE = "compiled in "
"""What a training prints once it is compiled."""


def groups_of(comparison: Comparison) -> dict[str, tuple[Member, str]]:
    """Group -> a finished member that stands for it (speed does not depend on the seed), and "eager" or "compiled"."""
    found: dict[str, tuple[Member, str]] = {}
    for member in comparison.members:
        if member.group not in found and state_of(member) == FINISHED:
            found[member.group] = (member, variant_of(comparison, member))
    return found


def variant_of(comparison: Comparison, member: Member) -> str:
    """How a member is timed: as asked for, else as it was trained; mace-torch as its commands train."""
    wanted = str(comparison.settings["speed"])
    if member.family == PEER:
        return "eager"
    if wanted != "auto":
        return wanted
    compiled = member.log.is_file() and COMPILED_LINE in member.log.read_text(errors="replace")
    return "compiled" if compiled else "eager"


def measure_groups(comparison: Comparison, chosen: dict[str, tuple[Member, str]]) -> dict[str, Speed]:
    """Measure all groups in turns.

    Args:
        comparison: The plan.
        chosen: From `groups_of`.
    """
    from mace_gaunt.benchmark.peer.settings import MdSettings
    from mace_gaunt.benchmark.peer.sides import OURS, Side, find_peer
    from mace_gaunt.cli.build import build_data
    from mace_gaunt.cli.compare_peer import GATES
    from mace_gaunt.cli.compose import complete_plain
    from mace_gaunt.cli.train import fill_from_data
    from mace_gaunt.simulation.loading import choose_device

    threads = len(comparison.slots[0])
    device = choose_device(str(comparison.first.config.device)).partition(":")[0]
    first = comparison.first.config.copy()
    data = build_data(first)
    fill_from_data(first, data.statistics)
    # mace-torch was given the settings of the first member, which need not be finished.
    config = complete_plain(first, comparison.first.request.known)
    runners = []
    for group, (member, variant) in chosen.items():
        is_peer = member.family == PEER
        of_member = config if is_peer else load_yaml(member.path / "config.yaml")
        settings: dict[str, Any] = settings_of(of_member, variant, threads, device)
        if is_peer:
            settings["gate"] = GATES[settings["gate"]]
        else:
            settings["model"] = str((member.path / "model").absolute())
        runners.append(Runner(Side(PEER if is_peer else OURS, group, variant), settings))
    request = MdSettings(out="", threads=threads, device=device, seconds=float(comparison.settings["speed_seconds"]))
    python = find_peer(comparison.settings["peer_env"]) if any(m.family == PEER for m, _ in chosen.values()) else None
    frames = data.train_frames
    return measure_speed(runners, frames, batch_size_of(config, frames), request, python, tell)


def tell(text: str) -> None:
    """A line about what is going on."""
    print(f"... {text}", flush=True)
