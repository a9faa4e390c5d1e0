"""The Python snippets of docs/calculator.md run one after the other, as the page says."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "calculator.md"
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_snippets_run_and_give_the_figures_of_the_page(tmp_path, monkeypatch):
    for name in ("data/3bpa_xtb", "data/models"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    snippets = SNIPPET.findall(PAGE.read_text(encoding="utf-8"))
    assert len(snippets) > 8
    for number, snippet in enumerate(snippets):
        if "import torch_sim" in snippet:
            pytest.importorskip("torch_sim", reason="torch-sim is not installed (extra torchsim)")
        exec(compile(snippet, f"{PAGE}, snippet {number}", "exec"), names)
    assert names["chain"].cell.lengths()[0] == pytest.approx(2.488, abs=2e-3)
    assert np.ptp(names["energies"]) == pytest.approx(0.31, abs=0.01)
    assert names["hessian"].shape == (81, 81)
    assert names["invariants"].shape == (27, 64) and names["everything"].shape == (27, 160)
    assert names["committee"].results["energy_std"] == pytest.approx(0.0, abs=1e-6)
    assert names["final"].n_systems == 4
