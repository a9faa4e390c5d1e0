# Sourced by the other scripts, not run: `prepare_environment EXTRAS` leaves an installed .venv in the repository root.
# EXTRAS is "" for users or a list such as "dev". A stamp in .venv remembers what was installed from which pyproject.toml.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"

fail() {
    echo "error: $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON does not run or is older than Python 3.11"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer, found: $(python3 --version 2>&1 || true)." \
        "Install one, or name it: PYTHON=/path/to/python3.11 bash $0"
}

make_venv() {
    local python
    python="$(find_python)" || exit 1
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module. On Debian or Ubuntu: apt install python3-venv"
    echo "making $VENV with $("$python" --version)"
    "$python" -m venv "$VENV" || fail "could not make $VENV"
}

prepare_environment() {
    local extras="$1" target="." stamp fingerprint
    [[ -n "$extras" ]] && target=".[$extras]"
    [[ -x "$VENV/bin/python" ]] || make_venv
    is_new_enough "$VENV/bin/python" || fail "$VENV is broken or older than Python 3.11: remove it and start again"
    stamp="$VENV/.installed${extras:+-$extras}"
    fingerprint="$(cat "$ROOT/pyproject.toml" "$ROOT/constraints/ci.txt" | cksum) $ROOT"
    if [[ "$(cat "$stamp" 2>/dev/null)" == "$fingerprint" ]]; then
        return
    fi
    echo "installing $target into $VENV (one to three minutes the first time)"
    (cd "$ROOT" && "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --editable "$target" \
        --constraint constraints/ci.txt) || fail "the installation failed; pip's message is above"
    echo "$fingerprint" >"$stamp"
}
