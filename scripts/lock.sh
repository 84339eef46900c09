#!/bin/sh
# Writes the two lock files from the ranges in pyproject.toml. Pins already in them are kept; `make lock UPGRADE=1`
# moves them all to the newest. Neither the user's configuration nor a registry's address gets into a lock.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
# Where a person has set up mirrors or local wheels, their hashes need not be those of the public files.
for name in $(env | sed -n 's/^\(UV_[A-Z_]*\|PIP_FIND_LINKS\|PIP_[A-Z_]*INDEX[A-Z_]*\)=.*/\1/p'); do unset "$name"; done

compile() {
    "$uv" pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url ${UPGRADE:+--upgrade} "$@" >/dev/null
}

compile --group build pyproject.toml -o requirements.lock
compile --group build --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
if grep -nE '://|--find-links|--(extra-)?index' requirements.lock requirements-dev.lock; then
    echo "lock.sh: an address got into a lock file: it must not be committed" >&2
    exit 1
fi
