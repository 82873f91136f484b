# Functions for the scripts in this folder. Sourced, not run; leaves the caller in the repository.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# need_package PROOF PACKAGE…: installs Debian packages unless the command PROOF succeeds.
need_package() {
    local proof=$1
    shift
    if eval "$proof" >/dev/null 2>&1; then return; fi
    if ! command -v apt-get >/dev/null; then
        printf 'missing, and there is no apt-get to install it: %s\n' "$*" >&2
        return 1
    fi
    local as_root=()
    if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -yq --no-install-recommends "$@"
}

# python_tool NAME REQUIREMENT…: installs Python packages in target/NAME-venv, and prints its bin
# folder.
python_tool() {
    local venv=target/$1-venv
    shift
    if [ ! -x "$venv/bin/python" ] && ! python3 -m venv "$venv" 2>/dev/null; then
        rm -rf "$venv"
        need_package 'python3 -c "import ensurepip"' python3-venv >&2
        python3 -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
    printf '%s\n' "$venv/bin"
}
