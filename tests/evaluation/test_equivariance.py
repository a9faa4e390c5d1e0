"""The equivariance error: nothing for what is equivariant, and what is there for what is not."""

import pytest

from mace_gaunt.evaluation.equivariance import ENERGY, FORCES, equivariance_errors


def test_an_invariant_potential(springs, frames):
    found = equivariance_errors(springs, frames, 10)
    assert 0 <= found[ENERGY] < 1e-8 and 0 <= found[FORCES] < 1e-9
    assert equivariance_errors(springs, [], 10) == {ENERGY: None, FORCES: None}


def test_a_field_along_one_axis_is_seen(springs, frames):
    inner = type(springs).forward

    def forward(self, vectors, node_types, edge_index, mirrored=False):
        # 10 meV/Å per pair along z: what is missed is of this size.
        bent = vectors + vectors.new_tensor([0.0, 0.0, 0.01])
        return inner(self, bent, node_types, edge_index, mirrored)

    springs.__class__ = type("Bent", (type(springs),), {"forward": forward})
    found = equivariance_errors(springs, frames[:2], 2)
    assert found[ENERGY] > 0.1 and found[FORCES] > 0.1
    assert equivariance_errors(springs, frames[:2], 2) == found
    assert equivariance_errors(springs, frames[:2], 1)[FORCES] <= found[FORCES] * 1.000001


@pytest.mark.parametrize("count", [1, 2])
def test_only_so_many_frames_are_read(springs, frames, count):
    class Counted(list):
        read = 0

        def __iter__(self):
            for frame in list.__iter__(self):
                Counted.read += 1
                yield frame

    Counted.read = 0
    equivariance_errors(springs, Counted(frames), count)
    assert Counted.read == count
