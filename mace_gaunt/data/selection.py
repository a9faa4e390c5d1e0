"""A diverse subset of frames, and how diverse it is."""

from collections.abc import Sequence

import numpy as np

from mace_gaunt.data.diversity import Similarity
from mace_gaunt.errors import UserError

# Frames of a set of which a choice is reported, and random subsets it is compared with.
REPORTED, RANDOM_SUBSETS = 2000, 3


def farthest_points(scaled: np.ndarray, n: int, first: int) -> list[int]:
    """Frames far from each other: each is the one farthest from all that were chosen before it.

    Source: Gonzalez, Theor. Comput. Sci. 38, 293 (1985): no frame of the set is farther from the chosen ones than twice
    the least possible. Equal distances are decided by the lower index.

    Args:
        scaled: Descriptors on a common scale, shape [n_frames, width].
        n: How many, at most n_frames.
        first: The one to begin with.

    Returns:
        Their indices in the order of choice.

    Raises:
        UserError: If there are fewer frames.
    """
    check_number(n, len(scaled))
    chosen = [first]
    distances = np.full(len(scaled), np.inf)
    while len(chosen) < n:
        distances = np.minimum(distances, np.square(scaled - scaled[chosen[-1]]).sum(axis=1))
        distances[chosen[-1]] = -1.0
        chosen.append(int(distances.argmax()))
    return chosen


def choose(scaled: np.ndarray, n: int, method: str = "farthest", seed: int = 0) -> list[int]:
    """A subset of frames, the same for the same seed.

    Args:
        scaled: Descriptors on a common scale, shape [n_frames, width].
        n: How many.
        method: "farthest" (see `farthest_points`, from a random one on) or "random".
        seed: Of what is drawn.

    Returns:
        Their indices in the order of choice.

    Raises:
        UserError: If there are fewer frames.
    """
    check_number(n, len(scaled))
    random = np.random.default_rng(seed)
    if method == "random":
        return random.choice(len(scaled), n, replace=False).tolist()
    return farthest_points(scaled, n, int(random.integers(len(scaled))))


def compare_choice(
    similarity: Similarity, features: np.ndarray, chosen: Sequence[int], seed: int = 0
) -> dict[str, float]:
    """Vendi scores (order 1) of all frames, of a chosen subset, and of random subsets of its size.

    Of more than REPORTED frames, a random part of this size is scored.

    Args:
        similarity: When frames are alike.
        features: Descriptors of all, shape [n_frames, width].
        chosen: Indices of the subset.
        seed: Of what is drawn.

    Returns:
        "all", "chosen", and "random": the mean of RANDOM_SUBSETS subsets.
    """
    random = np.random.default_rng(seed)

    def score(indices: Sequence[int] | np.ndarray) -> float:
        part = random.choice(indices, min(len(indices), REPORTED), replace=False)
        return similarity.vendi(features[part])

    everything = np.arange(len(features))
    draws = [score(random.choice(everything, len(chosen), replace=False)) for _ in range(RANDOM_SUBSETS)]
    return {"all": score(everything), "chosen": score(np.array(chosen)), "random": float(np.mean(draws))}


def check_number(n: int, n_frames: int) -> None:
    """Stop when a subset cannot have this size.

    Raises:
        UserError: If n is not between 1 and n_frames.
    """
    if not 1 <= n <= n_frames:
        raise UserError(f"n={n} frames cannot be chosen from {n_frames}.")
