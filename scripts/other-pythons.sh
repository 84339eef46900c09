#!/bin/sh
# usage: other-pythons.sh PYTHON
# Prints "MINOR COMMAND" for each further supported Python on this machine that can do what the service needs.
# One that is there but cannot (built without ssl, say) is named on stderr as left out.
set -eu
main=$("$1" -c 'import sys; print(sys.version_info.minor)')
for minor in 11 12 13; do
    [ "$minor" -ne "$main" ] || continue
    found=''
    works=''
    for command in "python3.$minor" "${HOME:-}/.pyenv/versions/3.$minor".*/bin/python3; do
        command -v "$command" >/dev/null || continue
        found=$command
        if "$command" -c "
import ensurepip, ssl, sqlite3, sys, venv
sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null; then
            works=$command
            break
        fi
    done
    if [ -n "$works" ]; then
        echo "3.$minor $works"
    elif [ -n "$found" ]; then
        echo "Left out: $found does not run, or lacks ssl, sqlite3 or venv" >&2
    fi
done
