#!/usr/bin/env bash
# `bash scripts/try_python.sh PYTHON TORCH [PYTEST ARGUMENT...]`: does the package work with this Python and this torch?
# A temporary environment gets the torch, everything else from the hashed files of constraints/, and the wheel; then the
# program is started away from the checkout, and the tests run. Example: bash scripts/try_python.sh python3.12 2.11.0
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

(($# >= 2)) || fail "usage: bash scripts/try_python.sh PYTHON TORCH [PYTEST ARGUMENT...]"
is_new_enough "$1" || fail "$1 does not run or is older than Python 3.11"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"$1" -m venv "$folder/environment"
programs="$folder/environment/bin"

pip() {
    echo "== pip $*"
    "$programs/python" -m pip "$1" --quiet --disable-pip-version-check "${@:2}"
}

cd "$ROOT"
pip install "torch==$2"
pip install --require-hashes --requirement constraints/build.txt
pip install --require-hashes --no-deps --no-build-isolation --requirement constraints/dev.txt
pip wheel --no-deps --no-build-isolation --wheel-dir "$folder" .
pip install --no-deps "$folder"/mace_gaunt-*.whl
pip check

cd "$folder"
"$programs/mace-gaunt" --version
"$programs/mace-gaunt" doctor
# The options that also apply to the tests' own processes; two workers, one thread each, as in scripts/test.sh.
export OMP_NUM_THREADS=1
cd "$ROOT"
"$programs/pytest" -n 2 -q "${@:3}"
