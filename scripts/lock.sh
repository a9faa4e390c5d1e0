#!/usr/bin/env bash
# `bash scripts/lock.sh [UV OPTION...]`: writes the pinned and hashed files of constraints/ anew (needs uv). A pin stays
# where pyproject.toml still allows it, but for `--upgrade` or `--upgrade-package NAME`. The hashes are those of PyPI's
# files, for every Python from 3.11 on. torch has a file of its own and is in none of the others, since its hashes depend
# on the build (CUDA, ROCm, CPU).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || {
    echo "error: needs uv: pip install uv" >&2
    exit 1
}
options=("$@")

# lock FILE SOURCE [OPTION...]: what SOURCE asks for, pinned and hashed, without torch.
lock() {
    echo "constraints/$1"
    uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
        --custom-compile-command "bash scripts/lock.sh" --output-file "constraints/$1" "${@:2}" "${options[@]}" >/dev/null
}

build_requirements() {
    # antlr4-python3-runtime, which Hydra needs, is no wheel: setuptools builds it. Below 82, as torch 2.11 asks for.
    echo 'setuptools<82'
    python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
}

without_torch=$(mktemp)
trap 'rm -f "$without_torch"' EXIT
echo torch >"$without_torch"

build_requirements | lock build.txt -
lock runtime.txt pyproject.toml --excludes "$without_torch" --constraint constraints/build.txt
lock dev.txt pyproject.toml --extra dev --excludes "$without_torch" \
    --constraint constraints/build.txt --constraint constraints/runtime.txt
lock torch.txt constraints/ci.txt --constraint constraints/dev.txt
