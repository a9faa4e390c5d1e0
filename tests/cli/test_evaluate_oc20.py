"""`mace-gaunt evaluate data=oc20`: files for the leaderboard, and relaxations, from every kind of split."""

import ase.io
import numpy as np
import pytest
from oc20_files import graph_fields, make_slab, pickle_graph, write_lmdb
from small_models import build

from mace_gaunt.evaluation import relaxation_report
from mace_gaunt.model.checkpoint import save_model

SPLITS = ("id", "ood_ads", "ood_cat", "ood_both")
LABELS = ("energy", "forces")


def slabs(split, count=3):
    return [make_slab(10 * SPLITS.index(split) + i, fid=i) for i in range(count)]


def unlabelled(path, split):
    """A split of S2EF as the test sets were released."""
    fields = [{name: v for name, v in graph_fields(a).items() if name not in LABELS} for a in slabs(split)]
    return write_lmdb(path, {b"%d" % i: pickle_graph(f) for i, f in enumerate(fields)})


def is2re(path, split, labelled=True, coincide=None):
    """A split of IS2RE: first structures, the relaxed ones 0.1 Å away along x."""
    records = {}
    for i, atoms in enumerate(slabs(split)):
        fields = {name: v for name, v in graph_fields(atoms).items() if name not in (*LABELS, "fid")}
        if labelled:
            fields |= {"y_init": 0.5, "y_relaxed": -1.0 - i, "pos_relaxed": fields["pos"].clone()}
            fields["pos_relaxed"][:, 0] += 0.1
        if i == coincide:
            fields["pos"][1] = fields["pos"][0]
        records[b"%d" % i] = pickle_graph(fields)
    return write_lmdb(path, records)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small = build("gaunt", num_channels=2, atomic_numbers=[1, 8, 29], E0s=[0.0, 0.0, 0.0], shift=0.0, r_max=3.0)
    save_model(small, folder / "model")
    return folder


def words_of(paths):
    return f"data.test={{{', '.join(f'{name}: {path}' for name, path in paths.items())}}}"


def test_a_submission_of_s2ef_from_sets_without_labels(command, model, tmp_path):
    paths = {f"test_{split}": unlabelled(tmp_path / f"{split}.lmdb", split) for split in SPLITS}
    given = ["evaluate", f"model={model}", "data=oc20", words_of(paths), "compile=off", "out=report"]
    status, out, err = command(*given, "leaderboard=files/s2ef.npz")
    assert status == 0 and "leaderboard  files/s2ef.npz" in out, err
    assert "test_id: 3 of 3 frames have no energy" in out
    content, kept = np.load("files/s2ef.npz"), np.load("report/predictions/test_ood_cat.npz")
    assert content["ood_cat_ids"].tolist() == ["120_0", "121_1", "122_2"]
    np.testing.assert_allclose(content["ood_cat_energy"], kept["energy"], rtol=1e-6)
    np.testing.assert_allclose(content["ood_cat_forces"], kept["forces"][~kept["fixed"]].astype(np.float32))
    free = np.bincount(np.repeat(np.arange(3), kept["n_atoms"])[~kept["fixed"]])
    assert content["ood_cat_chunk_idx"].tolist() == np.cumsum(free)[:-1].tolist()
    # A store of the same gives the same file.
    status, _, err = command("data", "prepare", f"path={paths['test_ood_cat']}", "out=store", "r_max=3")
    assert status == 0, err
    stored = words_of(paths | {"test_ood_cat": tmp_path / "store"})
    # Nothing tells what energies of unlabelled frames refer to.
    refusal = command(*given[:3], stored, "out=other", "leaderboard=other.npz")
    assert refusal[0] == 2 and "energies of the reference total" in refusal[2]
    assert command("data", "prepare", f"path={paths['test_ood_cat']}", "out=store", "r_max=3", "overwrite=true",
                   "energy_reference=adsorption")[0] == 0  # fmt: skip
    status, _, err = command(*given[:3], stored, "out=other", "leaderboard=other.npz", "compile=off")
    assert status == 0, err
    other = np.load("other.npz")
    for name in content.files:
        if content[name].dtype.kind == "f":
            np.testing.assert_allclose(other[name], content[name], rtol=1e-5, atol=1e-6)
        else:
            assert other[name].tolist() == content[name].tolist()


def test_is2re_from_the_first_structure(command, model, tmp_path):
    paths = {f"val_{split}": is2re(tmp_path / f"{split}.lmdb", split) for split in SPLITS}
    status, out, err = command(
        "evaluate", f"model={model}", "data=oc20", "data.task=is2re", words_of(paths), "leaderboard=is2re.npz",
        "out=report",
    )  # fmt: skip
    assert status == 0 and "mean of the four" in out, err
    content, kept = np.load("is2re.npz"), np.load("report/predictions/val_id.npz")
    assert content["id_ids"].tolist() == ["100", "101", "102"] and "id_forces" not in content
    np.testing.assert_allclose(content["id_energy"], kept["energy"], rtol=1e-6)


def test_relaxations_from_files_and_stores(command, model, tmp_path):
    paths = {f"val_{split}": is2re(tmp_path / f"{split}.lmdb", split) for split in SPLITS}
    assert command("data", "prepare", f"path={paths['val_ood_ads']}", "out=store", "r_max=3")[0] == 0
    given = ["evaluate", f"model={model}", "data=oc20", "data.task=is2re", "relax=true", "steps=2"]
    status, out, err = command(*given, words_of(paths), "out=report", "leaderboard=is2re.npz")
    assert status == 0 and "relax 3/3 systems" in err and "ADwT" in out, err
    lines = (tmp_path / "report" / "relaxations.csv").read_text().splitlines()
    assert lines[0].startswith("split,n_frames,n_converged,n_failed,mean_steps,energy_mae_eV") and len(lines) == 6
    assert lines[-1].startswith("mean of the four splits,12,")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "12 systems" in page and "How was relaxed" in page
    first, last = slabs("ood_ads")[1], ase.io.read("report/relaxed_val_ood_ads.extxyz", 1)
    assert last.info["sid"] == 111 and np.array_equal(last.constraints[0].index, first.constraints[0].index)
    moved = np.linalg.norm(last.positions - first.positions, axis=1)
    assert np.allclose(moved[:2], 0, atol=1e-5) and moved[2:].max() > 1e-3
    energies, positions = np.load("is2re.npz"), np.load("is2re_is2rs.npz")
    assert energies["ood_ads_ids"].tolist() == positions["ood_ads_ids"].tolist() == ["110", "111", "112"]
    assert energies["ood_ads_energy"][1] == pytest.approx(last.get_potential_energy(), abs=1e-5)
    found = np.split(positions["ood_ads_pos"], positions["ood_ads_chunk_idx"])[1]
    np.testing.assert_allclose(found, last.positions, atol=1e-7)
    status, _, err = command(*given, f"data.test={{val_ood_ads: {tmp_path}/store}}", "out=stored")
    assert status == 0, err
    assert (tmp_path / "stored" / "relaxations.csv").read_text().splitlines()[1] == lines[2]


def test_what_is_relaxed_stays_when_a_later_split_cannot_be(command, model, tmp_path, monkeypatch):
    relax, done = relaxation_report.relax_split, []

    def second_fails(split, *args, **kwargs):
        done.append(split)
        if len(done) == 2:
            raise OSError(28, "No space left on device")
        return relax(split, *args, **kwargs)

    monkeypatch.setattr(relaxation_report, "relax_split", second_fails)
    paths = {f"val_{split}": is2re(tmp_path / f"{split}.lmdb", split) for split in SPLITS}
    given = ["evaluate", f"model={model}", "data=oc20", "data.task=is2re", "relax=true", "steps=1"]
    status, _, err = command(*given, words_of(paths), "out=report")
    assert status != 0 and "No space left" in err
    _, row = (tmp_path / "report" / "relaxations.csv").read_text().splitlines()
    assert row.startswith(f"{done[0]},3,") and (tmp_path / "report" / "report.html").is_file()


def test_what_cannot_be_relaxed_or_submitted_is_refused(refused, command, model, tmp_path):
    path, labelled = is2re(tmp_path / "val_id.lmdb", "id"), f"data.test={tmp_path}/val_id.lmdb"
    oc20 = ["evaluate", f"model={model}", "data=oc20", f"data.root={tmp_path}"]
    assert "give data=oc20 data.task=is2re" in refused(*oc20, labelled, "relax=true")
    assert "give data=oc20 data.task=is2re" in refused("evaluate", f"model={model}", f"test_file={path}", "relax=true")
    relaxing = [*oc20, labelled, "data.task=is2re", "relax=true"]
    assert "Did you mean 'LBFGS'" in refused(*relaxing, "optimizer=LBGFS")
    assert "fmax is a force above 0" in refused(*relaxing, "fmax=0")
    assert "leave compile=on out" in refused(*relaxing, "compile=on")
    assert "is for OC20" in refused("evaluate", f"model={model}", f"test_file={path}", "leaderboard=a.npz")
    assert "missing: test_ood_ads" in refused(*relaxing, "leaderboard=a.npz")
    four = words_of(dict.fromkeys((f"val_{split}" for split in SPLITS), path))
    assert "ends in .npz" in refused(*oc20, four, "data.task=is2re", "leaderboard=a.csv")
    assert "of the reference total: train with" in refused(
        *oc20, four, "data.task=is2re", "leaderboard=a.npz", "data.energy_reference=total"
    )
    assert "has no fid" in refused(*oc20, four, "leaderboard=a.npz")
    (tmp_path / "a.npz").touch()
    assert "a.npz exists" in refused(*oc20, four, "data.task=is2re", "leaderboard=a.npz")
    status, out, _ = command(*relaxing, "--validate-only")
    assert status == 0 and "would relax val_id (3 systems)" in out
    assert "'opimizer'" in refused(*relaxing, "opimizer=FIRE")


def test_a_bad_record_is_found_before_anything_is_relaxed(refused, model, tmp_path):
    is2re(tmp_path / "val_id.lmdb", "id", coincide=2)
    told = refused(
        "evaluate", f"model={model}", "data=oc20", f"data.test={tmp_path}/val_id.lmdb", "data.task=is2re",
        "relax=true", "steps=1", "out=report",
    )  # fmt: skip
    assert "structure 2 (sid 102): atoms 0 and 1 are at the same place" in told


def test_without_labels_there_are_counts_alone(command, model, tmp_path):
    is2re(tmp_path / "test_id.lmdb", "id", labelled=False)
    status, _, err = command(
        "evaluate", f"model={model}", "data=oc20", f"data.root={tmp_path}", "data.task=is2re", "data.test=test_id",
        "relax=true", "steps=1", "out=report",
    )  # fmt: skip
    assert status == 0, err
    assert (tmp_path / "report" / "relaxations.csv").read_text().splitlines()[1].endswith(",,,,")
