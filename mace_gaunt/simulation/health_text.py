"""The health of a simulation in words."""

from typing import Any

# Of extrapolation; health.json has all.
MOST_WARNINGS = 5


def describe(health: dict[str, Any]) -> str:
    """The report that is printed and written to health.txt.

    Args:
        health: Content of health.json.

    Returns:
        Lines.
    """
    lines = [_first_line(health), _temperature(health)]
    drift = health["drift_meV_per_atom_per_ps"]
    if drift is not None:
        kept = "total energy" if health["ensemble"] == "nve" else "conserved quantity of the ensemble"
        lines.append(f"drift            {drift:.3g} meV/atom/ps of the {kept}")
    if health["pressure_mean_GPa"] is not None:
        lines.append(
            f"pressure         {health['pressure_mean_GPa']:.3f} GPa on average, target {health['pressure_GPa']:g} GPa"
        )
    if health["closest_distance_A"] is not None:
        lines.append(f"closest distance {health['closest_distance_A']:.2f} Å of any step")
        pairs = health["smallest_distance_A"].items()
        lines.append("by elements      " + ", ".join(f"{pair} {distance:.2f}" for pair, distance in pairs) + " Å")
    lines.append(f"largest force    {health['largest_force_eV_A']:.2f} eV/Å")
    if health["largest_force_std_eV_A"] is not None:
        lines.append(f"committee        forces differ by up to {health['largest_force_std_eV_A']:.3f} eV/Å")
    lines.append(f"speed            {health['steps_per_second']:.3g} steps/s, {health['ns_per_day']:.3g} ns/day")
    lines += _extrapolation(health)
    return "\n".join(lines)


def _first_line(health: dict[str, Any]) -> str:
    done = f"{health['steps']} steps ({health['time_ps']:g} ps) of {health['ensemble']}, {health['n_atoms']} atoms"
    return done if health["reason"] is None else f"{done}: STOPPED, {health['reason']}"


def _temperature(health: dict[str, Any]) -> str:
    """Mean with its standard error, spread, and how far from the target it is."""
    mean, error = health["temperature_mean_K"], health["temperature_error_K"]
    words = f"temperature      {mean:.1f}" + ("" if error is None else f" ± {error:.1f}") + " K on average"
    words += f", spread {health['temperature_std_K']:.1f} K"
    expected = health["temperature_std_expected_K"]
    if expected is None:
        return words
    words += f" (canonical {expected:.1f}); target {health['temperature_K']:g} K"
    if error is not None and abs(mean - health["temperature_K"]) > 3 * error:
        words += ": further from it than three standard errors, not equilibrated yet?"
    return words


def _extrapolation(health: dict[str, Any]) -> list[str]:
    if health["extrapolation_unknown"] is not None:
        return [f"training set     unknown: {health['extrapolation_unknown']}"]
    if not health["extrapolation"]:
        return ["training set     covers all distances, numbers of neighbours and densities of the recorded frames"]
    lines = [
        f"WARNING          outside the training set: {warning}" for warning in health["extrapolation"][:MOST_WARNINGS]
    ]
    more = len(health["extrapolation"]) - len(lines)
    return lines + ([f"                 and {more} more in health.json"] if more else [])
