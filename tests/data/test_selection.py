"""Diverse subsets: which frames, and the file they are written to."""

import json

import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms
from scipy.spatial.distance import cdist
from waters import make_water

from mace_gaunt.data.described import describe_records
from mace_gaunt.data.descriptors import RadialAngularDescriptor
from mace_gaunt.data.diversity import Similarity
from mace_gaunt.data.records import open_records
from mace_gaunt.data.selection import choose, compare_choice, farthest_points
from mace_gaunt.data.subset import check_out, record_file, write_subset
from mace_gaunt.errors import UserError


def clusters(n=60):
    """Four clusters of very different sizes."""
    rng = np.random.default_rng(0)
    sizes = [n, 5, 2, 1]
    return np.concatenate([10 * i + 0.1 * rng.normal(size=(size, 3)) for i, size in enumerate(sizes)])


def test_every_cluster_is_met_first():
    features = clusters()
    labels = np.repeat(range(4), [60, 5, 2, 1])
    for seed in range(5):
        chosen = choose(features, 4, seed=seed)
        assert set(labels[chosen]) == {0, 1, 2, 3}


def test_each_is_the_farthest_from_those_before():
    features = np.random.default_rng(1).normal(size=(50, 4))
    chosen = farthest_points(features, 12, first=7)
    distances = cdist(features, features)
    assert chosen[0] == 7 and len(set(chosen)) == 12
    for i in range(1, 12):
        nearest = distances[:, chosen[:i]].min(axis=1)
        assert nearest[chosen[i]] == pytest.approx(nearest.max(), rel=1e-12)


def test_seeded_and_complete():
    features = np.random.default_rng(2).normal(size=(30, 4))
    for method in ("farthest", "random"):
        assert choose(features, 10, method, seed=3) == choose(features, 10, method, seed=3)
        assert choose(features, 10, method, seed=3) != choose(features, 10, method, seed=4)
        assert sorted(choose(features, 30, method)) == list(range(30))
    # Copies come last, and each once.
    assert sorted(choose(np.zeros((5, 2)), 5)) == list(range(5))
    for n in (0, 31):
        with pytest.raises(UserError, match=f"n={n} frames"):
            choose(features, n)


def test_a_diverse_choice_beats_chance():
    features = clusters(200)
    similarity = Similarity.of(features, bandwidth=5.0)
    scores = compare_choice(similarity, features, choose(similarity.scale(features), 8))
    assert scores["chosen"] > 1.5 * scores["random"] and scores["chosen"] > scores["all"]


def test_records_in_order_and_a_random_part(write):
    first, second = write("a.xyz", *(make_water(i) for i in range(6))), write("b.xyz", make_water(9), make_water(10))
    files = open_records([first, f"{second}[1:]"])
    everything = describe_records(files, RadialAngularDescriptor())
    assert everything.origins == [(0, i) for i in range(6)] + [(1, 1)]
    assert everything.features.shape == (7, 292) and everything.of_file(1).shape == (1, 292)
    part = describe_records(files, RadialAngularDescriptor(), max_frames=4, seed=1)
    assert len(part) == 4 and part.seen == 7 and part.origins == sorted(part.origins)
    assert part.origins == describe_records(files, RadialAngularDescriptor(), max_frames=4, seed=1).origins
    for origin, features in zip(part.origins, part.features, strict=True):
        np.testing.assert_array_equal(features, everything.features[everything.origins.index(origin)])


def test_records_that_cannot_be_used(write):
    torn = make_water(1)
    torn.positions[2] = torn.positions[1]
    files = open_records([write("a.xyz", make_water(0), torn, make_water(2))])
    with pytest.raises(UserError, match=r"record 1: .*on_bad_frame=skip"):
        describe_records(files, RadialAngularDescriptor())
    frames = describe_records(files, RadialAngularDescriptor(), on_bad_frame="skip")
    assert frames.origins == [(0, 0), (0, 2)] and "record 1" in frames.bad[0]
    with pytest.raises(UserError, match="no frame can be used"):
        describe_records(open_records([write("b.xyz", torn)]), RadialAngularDescriptor(), on_bad_frame="skip")


def test_labels_survive(write, tmp_path):
    frames = [make_water(i, config_type="wet", sid=i) for i in range(5)]
    for atoms in frames:
        atoms.set_constraint(FixAtoms([1]))
        atoms.set_tags([2, 0, 1])
    files = open_records([write("a.xyz", *frames), write("b.xyz", make_water(7, forces=False))])
    out = tmp_path / "out.xyz"
    write_subset(out, files, [(0, 4), (1, 0), (0, 1)], {"seed": 0})
    written = ase.io.read(out, ":")
    for atoms, original in zip(written, (frames[4], make_water(7, forces=False), frames[1]), strict=True):
        np.testing.assert_allclose(atoms.positions, original.positions, atol=1e-8)
        assert atoms.calc.results.keys() == original.calc.results.keys()
        assert atoms.calc.results["energy"] == original.calc.results["energy"]
        assert atoms.info == original.info
    # Forces of fixed atoms stay as they are.
    np.testing.assert_allclose(written[0].calc.results["forces"], frames[4].calc.results["forces"], atol=1e-8)
    assert written[0].constraints[0].index.tolist() == [1] and written[0].get_tags().tolist() == [2, 0, 1]
    record = json.loads(record_file(out).read_text())
    assert record["seed"] == 0 and [frame["record"] for frame in record["frames"]] == [4, 0, 1]
    assert not list(tmp_path.glob("*.partial"))


def test_a_label_in_two_places(write, tmp_path):
    files = open_records([write("a.xyz", make_water(0))])
    (atoms,) = ase.io.read(files[0].source.path, ":")
    atoms.info["energy"] = -1.0

    class Source:
        path = files[0].source.path

        def read(self, start, stop):
            return iter([atoms])

    write_subset(tmp_path / "out.xyz", [type("File", (), {"source": Source()})], [(0, 0)], {})
    assert ase.io.read(tmp_path / "out.xyz").calc.results["energy"] == -1.0


def test_files_that_cannot_be_written(tmp_path):
    path = tmp_path / "out.xyz"
    assert check_out(str(path), overwrite=False) == path
    for out, message in (("out.db", "extxyz"), ("absent/out.xyz", "no folder")):
        with pytest.raises(UserError, match=message):
            check_out(str(tmp_path / out), overwrite=False)
    record_file(path).write_text("{}")
    with pytest.raises(UserError, match="overwrite=true"):
        check_out(str(path), overwrite=False)
    assert check_out(str(path), overwrite=True) == path
