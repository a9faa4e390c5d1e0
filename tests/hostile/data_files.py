"""Files of frames and labels that are cut off, mislabelled, empty, or something else than their name says."""

import gzip

import ase
import ase.io
import numpy as np

from hostile.row import EVALUATE, TINY, TRAIN, Build, Place, Row, both, file, named

STRESS = 'stress="{}" pbc="T T T" Lattice="9 0 0 0 9 0 0 0 9"'
PREPARE = "data prepare path=bad.xyz out=store r_max=3 workers=1"
INSPECT = "data inspect bad.xyz"
SELECT = "data select bad.xyz n=2 out=chosen.extxyz"


def frame(energy: str = "energy=-1.0", force: str = "0 0 0", more: str = "", columns: str = "forces:R:3") -> str:
    """Two atoms as extxyz."""
    rows = f"H 0 0 0 {force}\nH 0 0 0.8 {force}\n"
    return f"2\nProperties=species:S:1:pos:R:3:{columns} {energy} {more}\n{rows}"


def frames(*one: str) -> Build:
    """Eight good frames and these."""
    return file("bad.xyz", "".join([frame()] * 8 + list(one)))


def changed(name: str, change: str) -> Build:
    """Good frames, cut off or compressed in a way that does not go with their name."""

    def build(place: Place) -> None:
        path = place.path / name
        ase.io.write(place.path / "good.xyz", place.frames, format="extxyz")
        whole = (place.path / "good.xyz").read_bytes()
        contents = {
            "cut": whole[:-700],
            "cut_gz": gzip.compress(whole)[:-700],
            "not_gz": whole,
            "gz": gzip.compress(whole),
        }
        path.write_bytes(contents[change])
        (place.path / "good.xyz").unlink()

    return named(f"{change}_{name}", build)


def isolated(place: Place) -> None:
    """A file of isolated atoms and nothing else."""
    with (place.path / "bad.xyz").open("w") as stream:
        for symbol in "HCNO":
            stream.write(f"1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\n{symbol} 0 0 0 0 0 0\n")


def folder_of_notes(place: Place) -> None:
    """A folder without data."""
    place.write("notes/readme.txt", "nothing here")


def points(place: Place) -> None:
    """An .npz file, which is no format of frames."""
    np.savez(place.path / "bad.npz", R=np.zeros((3, 3)))


def store(place: Place, shards: int = 1) -> None:
    """A small store of frames, as `store/`."""
    from mace_gaunt.data.store.engines import open_engine
    from mace_gaunt.data.store.prepare import prepare
    from mace_gaunt.data.store.request import Request

    place.write("good.xyz", frame() * 8)
    with open_engine("local", 1) as engine:
        prepare(Request([place.path / "good.xyz"], place.path / "store", 3.0), engine)


def broken_store(pattern: str, change: str) -> Build:
    """A store of which one file is gone, cut off or altered."""

    def build(place: Place) -> None:
        store(place)
        path = next(iter(sorted((place.path / "store").glob(pattern))))
        content = path.read_bytes()
        if change == "gone":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2] if change == "cut" else content[:-9] + b"\x00" * 9)

    return named(f"{change}_{pattern}", build)


def train_on(name: str) -> str:
    """The command that trains on this file."""
    return TRAIN.replace("bad.xyz", name)


VALID = f"train train_file={{data}} valid_file=bad.xyz run=out {TINY} --validate-only"

ROWS = [
    Row("data file", TRAIN, "the file is empty", file("bad.xyz", "")),
    Row("data file", INSPECT, "the file is empty", file("bad.xyz", ""), status=1),
    Row("data file", INSPECT, "the file ends after", changed("bad.xyz", "cut"), status=1),
    Row("data file", TRAIN, "cannot read bad.xyz", changed("bad.xyz", "cut")),
    Row("data file", train_on("bad.xyz.gz"), "cannot read bad.xyz.gz", changed("bad.xyz.gz", "cut_gz")),
    Row("data file", train_on("bad.xyz.gz"), "Not a gzipped file", changed("bad.xyz.gz", "not_gz")),
    Row("data file", TRAIN, "gzip", changed("bad.xyz", "gz")),
    Row("data file", TRAIN, "bad.xyz", file("bad.xyz", bytes(range(256)) * 9)),
    Row("data file", TRAIN, "bad.xyz", frames("two\nhello\n")),
    Row("data file", TRAIN, "bad.xyz", frames(frame().replace("0.8", "zero"))),
    Row("data file", train_on("bad.npz"), ".npz", points),
    Row("data file", train_on("bad.db"), "cannot read bad.db", file("bad.db", "no database")),
    Row("data file", train_on("bad.traj"), "cannot read bad.traj", file("bad.traj", "no trajectory")),
    Row("data file", train_on("bad.lmdb"), "cannot read bad.lmdb", file("bad.lmdb", b"\0" * 20000)),
    Row("data file", train_on("notes"), "a folder without files of structures", folder_of_notes),
    Row("data file", train_on("bad.xyz[20:]"), "selects no frame; the file has 8", frames()),
    Row("data file", train_on("bad.xyz[]"), "write a slice such as", frames()),
    Row("data file", train_on("bad.xyz[a:b]"), "no file bad.xyz[a:b]", frames()),
    Row("data file", TRAIN, "isolated atoms", isolated),
    Row("data file", f"{TRAIN} valid_size=8", "Give a smaller valid_size", frames()),
    Row("data file", f"{TRAIN} valid_size=null valid_fraction=1.5", "valid_fraction", frames()),
    Row("data file", VALID, "the file is empty", file("bad.xyz", "")),
    Row("data file", PREPARE, "the file ends after", changed("bad.xyz", "cut")),
    Row("data file", SELECT, "the file ends after", changed("bad.xyz", "cut")),
    Row("data file", SELECT.replace("n=2", "n=20"), "20", frames()),
    Row("label", TRAIN, "no 'energy'", file("bad.xyz", frame(energy="") * 8)),
    Row("label", TRAIN, "frame 8: energy (calculator) holds values that are not finite", frames(frame("energy=nan"))),
    Row("label", TRAIN, "frame 8: forces (calculator) holds values that are not finite",
        frames(frame(force="nan 0 0"))),
    Row("label", TRAIN, "is not a number", frames(frame("energy=low"))),
    Row("label", TRAIN, "has shape (2,); energy needs ()", frames(frame('energy="1 2"'))),
    Row("label", TRAIN, "forces needs (2, 3)", frames(frame(force="0 0", columns="forces:R:2"))),
    Row("label", TRAIN, "expecting special 3x3 matrix", frames(frame(more=STRESS.format("1 2 3")))),
    Row("label", TRAIN, "two candidates for energy disagree", frames(frame(more="REF_energy=-2.0"))),
    Row("label", f"{TRAIN} energy_key=dft_energie", "Did you mean energy_key=dft_energy",
        file("bad.xyz", frame("dft_energy=1") * 8)),
    Row("label", f"{TRAIN} forces_key=force", "Did you mean forces_key=forces", frames()),
    Row("label", f"{TRAIN} stress_key=virials", "virials are not stress", frames()),
    Row("label", EVALUATE, "values that are not finite", file("bad.xyz", frame("energy=nan"))),
    Row("label", EVALUATE, "no 'energy'", file("bad.xyz", frame("", columns="x:R:3"))),
    Row("label", PREPARE, "not finite", frames(frame("energy=inf"))),
    Row("store", "data verify store", "no store", file("store/a.txt", "")),
    Row("store", "data verify store", "'store' is a file", file("store", "")),
    Row("store", train_on("store"), "bytes; the manifest says", broken_store("*.lmdb", "cut")),
    Row("store", train_on("store"), "cannot be read", broken_store("*.lmdb", "gone")),
    Row("store", train_on("store"), "manifest", broken_store("manifest.json", "cut")),
    Row("store", train_on("store") + " r_max=5", "prepare it again with r_max=5, or set r_max=3",
        named("small_store", store)),
    Row("store", "data verify store workers=1", "00000.lmdb", broken_store("*.lmdb", "altered"), status=1),
    Row("store", "data prepare path=good.xyz out=store r_max=4 workers=1", "overwrite=true", named("other", store)),
    Row("store", "data prepare path=good.xyz,good.xyz out=new r_max=3", "is named twice", named("twice", store)),
    Row("store", "data prepare path=notes out=new r_max=3", "without files of structures", folder_of_notes),
    Row("store", "data prepare path=bad.xyz[:4] out=new r_max=3", "a store is made of whole files", frames()),
    Row("store", f"{PREPARE} linear_reference=a.npz energy_reference=linear", "a.npz",
        both(frames(), file("a.npz", "none"))),
]  # fmt: skip
