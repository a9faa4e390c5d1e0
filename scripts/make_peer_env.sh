#!/usr/bin/env bash
# `bash scripts/make_peer_env.sh [FOLDER]`: an environment with mace-torch (FOLDER: .venv-peer in the repository root),
# for `mace-gaunt benchmark step` and `benchmark md`. It is one of its own, since mace-torch pins e3nn 0.4.4.
# torch is the version that constraints/ci.txt pins, so that both sides of a comparison run the same one. Which build of
# it pip's index decides; another one (say, without CUDA) can be installed into FOLDER first and is kept.
# With an NVIDIA GPU its fused kernels (cuequivariance) are installed too. A second call does nothing but print.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install() {
    echo "installing $*"
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --constraint "$ROOT/constraints/ci.txt" "$@"
}

has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1
}

install_peer() {
    # torch first: were it to come as a dependency, the newest one would be chosen before the others are looked at.
    "$VENV/bin/python" -c 'import torch' 2>/dev/null || install torch || fail "torch did not install; pip's message is above"
    install 'e3nn==0.4.4' mace-torch || fail "mace-torch did not install; pip's message is above"
    if has_gpu; then
        local cuda
        cuda="$("$VENV/bin/python" -c 'import torch; print((torch.version.cuda or "").split(".")[0])')"
        [[ -n "$cuda" ]] || fail "there is a GPU, but this torch has no CUDA: remove $VENV, or install a CUDA build into it"
        install cuequivariance cuequivariance-torch "cuequivariance-ops-torch-cu$cuda" ||
            echo "without cuequivariance: it did not install" >&2
    fi
}

print_versions() {
    "$VENV/bin/python" - <<'PYTHON' || fail "mace-torch is installed in $VENV but cannot be imported; the reason is above"
import importlib.metadata
import warnings

warnings.simplefilter("ignore")
import torch

# The constants of e3nn 0.4.4 hold a slice, which torch.load refuses from torch 2.6 on.
torch.serialization.add_safe_globals([slice])
import mace.calculators  # noqa: F401
import mace.modules  # noqa: F401

for name in ("torch", "e3nn", "mace-torch", "ase", "numpy", "cuequivariance-torch", "openequivariance"):
    try:
        print(f"{name:22}{importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        pass
print(f"{'CUDA device':22}{torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}")
PYTHON
}

(($# <= 1)) || fail "usage: bash scripts/make_peer_env.sh [FOLDER]"
VENV="${1:-$ROOT/.venv-peer}"
[[ -e "$VENV" && ! -x "$VENV/bin/python" ]] && fail "$VENV exists and is no environment: remove it or name another folder"
[[ -x "$VENV/bin/python" ]] || make_venv
if [[ ! -f "$VENV/.installed-peer" ]]; then
    install_peer
fi
print_versions
touch "$VENV/.installed-peer"
echo "ready: $VENV"
