"""`mace-gaunt data prepare` and `data verify`: mistakes, and small stores made inside the process."""

import json

import ase.io
import numpy as np
import pytest


@pytest.fixture
def molecules(frames, tmp_path):
    """A file of four isolated atoms and ten molecules."""
    path = tmp_path / "molecules.xyz"
    ase.io.write(path, frames)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("prepare out=s r_max=5", "path is missing"),
        ("prepare path=molecules.xyz r_max=5", "out is missing"),
        ("prepare path=molecules.xyz out=s", "r_max is missing"),
        ("prepare path=molecules.xyz out=s r_max=-5", "r_max=-5 is not possible"),
        ("prepare path=molecules.xyz out=s rmax=5", "no key 'rmax' in 'data prepare'. Did you mean 'r_max'"),
        ("prepare path=molecules.xyz out=s r_max=5 energy_reference=adsorbtion", "Did you mean 'adsorption'"),
        ("prepare path=molecules.xyz out=s r_max=5 on_bad_frame=ignore", "on_bad_frame=ignore is not possible"),
        ("prepare path=molecules.xyz out=s r_max=5 workers=0", "workers=0 is not possible"),
        ("prepare path=molecules.xyz out=s r_max=5 engine=ray", "no 'ray'"),
        ("prepare path=molecules.xyz out=s r_max=5 scheduler=tcp://host:1", "belongs to engine=dask"),
        ("prepare path=molecules.xyz out=s r_max=5 linear_reference=x.npz", "belongs to energy_reference=linear"),
        ("prepare path=absent.xyz out=s r_max=5", "absent.xyz"),
        ("prepare path=molecules.xyz,molecules.xyz out=s r_max=5", "named twice"),
        ("prepare path=. out=s r_max=5", "lies in ."),
        ("prepare path=molecules.xyz out=molecules.xyz/s r_max=5", "molecules.xyz"),
        ("verify", "which store?"),
        ("verify absent", "absent is no store"),
        ("verify absent depe=true", "Did you mean 'deep'"),
    ],
)
def test_mistakes(molecules, refused, words, message):
    assert message in refused("data", *words.split())


def test_prepare_and_verify(molecules, command, tmp_path):
    words = ["data", "prepare", f"path={molecules}", "out=s", "r_max=4", "workers=1"]
    status, out, err = command(*words)
    assert status == 0
    assert "no file tells what its energies refer to: energy_reference=total is assumed" in out
    assert "store  s (1 of 1 shards made)" in out
    assert "14 frames in 1 shards" in out
    assert "energy (total): mean -" in out
    assert "prepared 14/14 frames" in err
    assert json.loads((tmp_path / "s" / "manifest.json").read_text())["totals"]["frames"] == 14
    status, out, err = command(*words)
    assert status == 0
    assert "nothing to do: it was complete" in out
    assert err == ""
    status, out, _ = command("data", "verify", "s", "workers=1", "deep=true")
    assert status == 0
    assert out.startswith("s is as it was prepared\n14 frames")
    content = bytearray((tmp_path / "s" / "00000.lmdb").read_bytes())
    content[-3000] ^= 1
    (tmp_path / "s" / "00000.lmdb").write_bytes(content)
    status, out, _ = command("data", "verify", "path=s", "workers=1")
    assert status == 1
    assert "00000.lmdb has changed: its sha256" in out
    assert out.endswith("problems\n")


def test_bad_records(frames, command, tmp_path):
    frames = [atoms.copy() for atoms in frames]
    for number, atoms in enumerate(frames):
        atoms.info["REF_energy"] = np.nan if number in (5, 7) else -1.0
    ase.io.write(tmp_path / "bad.xyz", frames)
    words = ["data", "prepare", "path=bad.xyz", "out=s", "r_max=4", "workers=1"]
    status, _, err = command(*words)
    assert status == 2
    assert "bad.xyz, record 5: REF_energy (info) holds values that are not finite" in err
    assert "on_bad_frame=skip" in err
    status, out, _ = command(*words, "on_bad_frame=skip")
    assert status == 0
    assert "12 frames in 1 shards" in out
    assert "2 bad records" in out
    assert f"  {tmp_path / 'bad.xyz'}, record 7: REF_energy (info) holds values" in out
    status, out, _ = command(*words, "energy_key=null", "overwrite=true")
    assert status == 0
    assert "energies of 0, forces of 0, stress of 0 frames" in out


def test_help(command):
    for subverb in ("prepare", "verify"):
        status, out, _ = command("data", subverb, "--help")
        assert status == 0
        assert out.startswith(f"usage: mace-gaunt data {subverb}")
        assert "workers" in out
