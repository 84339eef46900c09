#!/bin/sh
# usage: venv.sh VENV PYTHON LOCK
# Makes VENV with PYTHON, installs what LOCK pins and this project (editable) into it. Quick where nothing has
# changed. A venv that is broken, half made, moved, of another Python or of another LOCK's text is made anew.
set -eu
cd "$(dirname "$0")/.."
venv=$1
python=$2
lock=$3

python_is=$("$python" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null) || {
    echo "$python does not run: vde-multilink needs Python 3.11 or newer (make ... PYTHON=python3.12)" >&2
    exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "$python is too old: vde-multilink needs Python 3.11 or newer (make ... PYTHON=python3.12)" >&2
    exit 1
}

# Two makes at once would write into one venv. The lock ends with this process and its file descriptor.
exec 9>"$venv.lock"
flock 9

# Beside what it holds, a venv keeps files that say what that was made from.
says() { [ "$(cat "$venv/$1" 2>/dev/null)" = "$2" ]; }
say() { echo "$2" >"$venv/$1"; }
works() {
    says .made "$PWD $python_is" && [ ! -e "$venv/.installing" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null
}
pip_install() {
    touch "$venv/.installing"
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input -qq install "$@" 9>&-
    rm "$venv/.installing"
}

pins=$(sha256sum "$lock")
project=$(sha256sum pyproject.toml)
if ! works || { [ -e "$venv/.$lock" ] && ! says ".$lock" "$pins"; }; then
    rm -rf "$venv"
    PYTHON=$python scripts/apt-need.sh python3-venv:import=ensurepip
    echo "Making $venv with $("$python" --version)" >&2
    "$python" -m venv "$venv"
    say .made "$PWD $python_is"
fi
if ! says ".$lock" "$pins"; then
    echo "Installing $lock into $venv" >&2
    pip_install --require-hashes -r "$lock"
    say ".$lock" "$pins"
fi
if ! says .project "$project"; then
    pip_install --no-build-isolation --no-deps --editable .
    say .project "$project"
fi
