#!/bin/sh
# usage: test.sh PYTHON
# Every test: those that need no real client on each further Python that is here, then all of them in .venv, last, so
# that pytest's summary of these is the last thing said. Fails if any run failed; a failed one does not hide the next.
set -eu
cd "$(dirname "$0")/.."
status=0
scripts/other-pythons.sh "$1" >.venv/other-pythons
while read -r version command; do
    echo "== Python $version, without the real clients"
    if scripts/venv.sh ".venv-$version" "$command" requirements-dev.lock </dev/null; then
        ".venv-$version/bin/python" -m pytest -q -m 'not e2e' -p no:cacheprovider </dev/null || status=1
    else
        status=1
    fi
done <.venv/other-pythons

echo "== $(.venv/bin/python --version), everything"
[ "$status" -eq 0 ] || echo "A run on another Python has failed: see above"
.venv/bin/python -m pytest || status=1
exit "$status"
