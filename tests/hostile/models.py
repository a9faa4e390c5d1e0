"""Model folders, packages, checkpoints and run folders that are cut off, altered, or of something else."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hostile.row import TINY, TRAIN, Build, Place, Row, both, file, named
from hostile.structures import MOLECULE
from mace_gaunt.model.checkpoint import sealed

ROOT = Path(__file__).resolve().parents[1]
USE = "md model=model structure={data} out=out device=cpu compile=off --validate-only"
PACKAGE = "md model={model} structure={data} out=out device=cpu package=bad.pt2 --validate-only"
CONVERT = "convert mace=mace out=out"
REPORT = "report run=a --validate-only"


def described(name: str, change: Callable[[dict[str, Any]], object], seal: bool = True) -> Build:
    """A builder of a model whose description is another one, with a checksum that is right or wrong."""

    def build(place: Place) -> None:
        path = place.copy_model() / "model.json"
        description = json.loads(path.read_text())
        change(description)
        path.write_text(sealed(description) if seal else json.dumps(description))

    return named(name, build)


def weights(name: str, change: Callable[[bytes], bytes]) -> Build:
    """A builder of a model whose weights are other bytes."""

    def build(place: Place) -> None:
        path = place.copy_model() / "weights.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return named(name, build)


def text(content: str) -> Build:
    """A builder of a model whose description is this text."""
    return named("description", lambda place: (place.copy_model() / "model.json").write_text(content))


def no_weights(place: Place) -> None:
    """A model without its weights."""
    (place.copy_model() / "weights.safetensors").unlink()


def old_schema(place: Place) -> None:
    """A model of a schema without checksums, with the weights of nothing."""
    description = json.loads((place.copy_model() / "model.json").read_text()) | {"schema_version": 1}
    (place.path / "model" / "model.json").write_text(json.dumps(description))
    (place.path / "model" / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")


def other_zip(place: Place) -> None:
    """An archive of something else, called a package."""
    with zipfile.ZipFile(place.path / "bad.pt2", "w") as archive:
        archive.writestr("readme.txt", "hello")


class Greeting:
    """What a checkpoint may not hold: an object whose unpickling runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of the file was run",)


def mace(name: str, config: object, tensors: bool = True) -> Build:
    """A builder of the folder of a MACE model with this configuration."""

    def build(place: Place) -> None:
        place.write("mace/config.json", config if isinstance(config, str) else json.dumps(config))
        if tensors:
            np.savez(place.path / "mace" / "state_dict.npz", a=np.zeros(2))

    return named(name, build)


def pickled(place: Place) -> None:
    """A pickled model of mace-torch, as far as the name says."""
    torch.save(Greeting(), place.path / "mace.model")


def run_with(name: str, content: str | bytes | None) -> Build:
    """A builder of a run of which one file is this, or is gone."""

    def build(place: Place) -> None:
        path = place.copy_run() / name
        path.unlink()
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return named(f"run_{name}", build)


RESUME = "train run=a resume=auto --validate-only"

ROWS = [
    Row("model", USE, "holds no model: expected model.json", file("model/readme.txt", "")),
    Row("model", USE.replace("model=model", "model=model/model.json"), "is a file", described("a_file", lambda d: d)),
    Row("model", USE, "cannot be read as a model description", text("{")),
    Row("model", USE, "it is no JSON object with a schema_version", text("[1, 2]")),
    Row("model", USE, "it is no JSON object with a schema_version", text("{}")),
    Row("model", USE, "written by another version", described("version_99", lambda d: d.update(schema_version=99))),
    Row("model", USE, "was altered since it was saved",
        described("altered", lambda d: d["hyperparameters"].update(r_max=9.0), seal=False)),
    Row("model", USE, "Did you mean 'gaunt'",
        described("other_family", lambda d: d["edge_product"].update(family="gount"))),
    Row("model", USE, "energy of its test structure differ",
        described("less", lambda d: d["hyperparameters"].pop("r_max"))),
    Row("model", USE, "colour", described("more", lambda d: d["hyperparameters"].update(colour="red"))),
    Row("model", USE, "is damaged: ", described("other_shape", lambda d: d["hyperparameters"].update(num_channels=3))),
    Row("model", USE, "unknown dtype 'float16'", described("other_dtype", lambda d: d.update(dtype="float16"))),
    Row("model", USE, "energy of its test structure differ",
        described("other_probe", lambda d: d["probe"].update(interaction_energy_eV=[7.0]))),
    Row("model", USE, "the model folder is incomplete", no_weights),
    Row("model", USE, "cut off, altered or exchanged", weights("cut_weights", lambda content: content[:-40])),
    Row("model", USE, "cut off, altered or exchanged",
        weights("altered_weights", lambda content: content[:-4] + b"\1\2\3\4")),
    Row("model", USE, "cut off, altered or exchanged", weights("empty_weights", lambda content: b"")),
    Row("model", USE, "was altered since it was saved", old_schema),
    Row("model", USE.replace("model=model", "model={model} head=pbe"), "the model has one head"),
    Row("model", USE.replace("model=model", "model={model} kernel=gird"), "Did you mean 'grid'"),
    Row("model", USE.replace("model=model", "model={model} dtype=float16"), "dtype is 'float32' or 'float64'"),
    Row("model", USE.replace("model=model", "model=[{model}]"), "a committee has two models or more"),
    Row("model", USE.replace("model=model", "model=[{model},absent]"), "No model folder 'absent'"),
    Row("model", "export model=model out=a.pt2 device=cpu", "the model folder is incomplete", no_weights),
    Row("model", "evaluate model=model test_file={data} out=out", "the model folder is incomplete", no_weights),
    Row("model", "data select {data} n=2 out=a.extxyz model=model", "the model folder is incomplete", no_weights),
    Row("model", f"train train_file={{data}} init=model run=out {TINY}", "the model folder is incomplete", no_weights),
    Row("model", "train train_file={data} init={model} run=out model.num_channels=7", "leave it out with init="),
    Row("model", "train train_file={data} init={model} run=out freeze=[radial_mpl] --validate-only", "radial_mpl"),
    Row("model", "train train_file={data} init={model} run=out add_elements=[Xx]", "'Xx' is no element"),
    Row("package", PACKAGE, "No package 'bad.pt2'"),
    Row("package", PACKAGE, "cannot be read as a package", file("bad.pt2", "no package")),
    Row("package", PACKAGE, "no package that mace-gaunt export wrote", other_zip),
    Row("conversion", CONVERT, "No file or folder 'mace'"),
    Row("conversion", CONVERT, "has no state dict", mace("no_tensors", {}, tensors=False)),
    Row("conversion", CONVERT, "cannot be read", mace("no_json", "{")),
    Row("conversion", CONVERT, "holds no settings", mace("a_list", [1])),
    Row("conversion", CONVERT, "lacks 'num_interactions'", mace("no_settings", {})),
    Row("conversion", CONVERT, "cannot be read as a state dict",
        both(mace("x", {}, tensors=False), file("mace/state_dict.npz", b"PK nothing"))),
    Row("conversion", "convert mace=mace.model out=out", "give trust=true", pickled),
    Row("conversion", "convert mace=mace.model out=out trust=true peer_env=absent", "no environment with mace-torch",
        pickled),
    Row("conversion", f"convert mace={ROOT}/fixtures/mace/density_agnesi_heads out=out head=pbf", "Did you mean 'pbe'"),
    Row("run", RESUME, "last.ckpt", run_with("checkpoints/last.ckpt", b"cut off")),
    Row("run", RESUME, "last.ckpt", run_with("checkpoints/last.ckpt", pickle.dumps(Greeting()))),
    Row("run", f"{RESUME} max_epochs=9", "would not be continued as it began",
        named("another_length", lambda place: place.copy_run())),
    Row("run", "train run=a resume=auto", "is not valid yaml", run_with("config.yaml", "a: [")),
    Row("run", REPORT, "lacks metrics.csv", run_with("metrics.csv", None)),
    Row("run", REPORT, "lacks config.yaml", run_with("config.yaml", None)),
    Row("run", "report run=a", "is not valid yaml", run_with("config.yaml", "a: [")),
    Row("run", "report run=a out=out", "report.json", run_with("report/report.json", "{")),
    Row("run", "report run=a out=out", "valid.npz", run_with("report/predictions/valid.npz", b"cut off")),
    Row("run", REPORT, "report/metrics.csv", run_with("report/metrics.csv", b"\xff\xfe\0")),
    Row("run", "md model={model} structure=bad.xyz out=md resume=auto device=cpu compile=off", "is damaged",
        both(MOLECULE, file("md/checkpoint.npz", "cut off"))),
    Row("run", TRAIN.replace("bad.xyz", "{data}") + " resume=must", "there is no runs/out/checkpoints/last.ckpt"),
]  # fmt: skip
