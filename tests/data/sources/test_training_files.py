"""Every format trains: train_file is an LMDB, or a folder of shards."""

import pytest
import torch
from oc20_files import make_slab, write_ocp_lmdb, write_shard

from mace_gaunt.data.datamodule import AtomsDataModule

SLABS = [make_slab(i) for i in range(10)]
SHIFTS = {"H": 0.0, "O": 0.0, "Cu": 0.0}


def write(folder, kind):
    if kind == "lmdb":
        return write_ocp_lmdb(folder / "data.0000.lmdb", SLABS)
    for number in range(5):
        write_shard(folder, number, SLABS[2 * number : 2 * number + 2])
    return folder


@pytest.mark.parametrize("kind", ["lmdb", "shards"])
def test_a_training_set(tmp_path, kind):
    path = write(tmp_path, kind)
    module = AtomsDataModule(3.0, f"{path}[:8]", f"{path}[8:]", E0s=SHIFTS)
    module.setup("fit")
    frames = [*module.train_frames, *module.valid_frames]
    assert (len(module.train_frames), len(module.valid_frames)) == (8, 2)
    assert [frame.sid.item() for frame in frames] == [slab.info["sid"] for slab in SLABS]
    for frame, slab in zip(frames, SLABS, strict=True):
        assert torch.equal(frame.tags, torch.tensor(slab.get_tags()))
        assert frame.fixed.tolist() == [True, True] + [False] * (len(slab) - 2)
    assert list(module.file_hashes) == [str(path)]
