#!/bin/sh
# usage: test.sh PYTHON
# Every test: all of them in .venv, and beside that, on the second core, those that need no real client on each further
# Python that is here. What those say comes when they have failed, else their last line. Fails if any run failed.
set -eu
cd "$(dirname "$0")/.."
scripts/other-pythons.sh "$1" >.venv/other-pythons

on_other_pythons() {
    status=0
    while read -r version command; do
        log=.venv/python-$version.log
        if scripts/venv.sh ".venv-$version" "$command" requirements-dev.lock >"$log" 2>&1 </dev/null &&
            env --default-signal=INT,QUIT nice -n 5 ".venv-$version/bin/python" -m pytest -q -m 'not e2e' -p no:cacheprovider >>"$log" 2>&1 </dev/null; then
            echo "Python $version, without the real clients: $(tail -n 1 "$log")"
        else
            echo "== Python $version, without the real clients, has failed"
            cat "$log"
            status=1
        fi
    done <.venv/other-pythons
    return "$status"
}

# What a shell runs beside itself ignores SIGINT, and so would what the tests start and interrupt: hence env's word.
on_other_pythons >.venv/other-pythons.log 2>&1 &
others=$!
trap 'kill "$others" 2>/dev/null || :' INT TERM

echo "== $(.venv/bin/python --version), everything"
status=0
.venv/bin/python -m pytest || status=1
wait "$others" || status=1
cat .venv/other-pythons.log
exit "$status"
