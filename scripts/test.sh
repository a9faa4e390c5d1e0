#!/usr/bin/env bash
# Linters, types and the default test suite; every step runs, and the exit status says whether all passed.
# Arguments go to pytest: `bash scripts/test.sh -m slow`.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment dev
cd "$ROOT"
# Two pytest workers share two cores: one thread each, or they slow each other down.
export OMP_NUM_THREADS=1
failed=()

step() {
    echo "== $*"
    "$VENV/bin/$1" "${@:2}" || failed+=("$1")
}

step ruff check
step ruff format --check
step mypy
step lint-imports --no-logo
step codespell
step pytest -n 2 -q "$@"

if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
echo "all passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
