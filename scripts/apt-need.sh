#!/bin/sh
# usage: apt-need.sh [--or-go-on] PACKAGE:WHAT...
# Installs the Debian packages whose WHAT is missing: a program, a /file, or import=MODULE for a module of $PYTHON.
# Without root it says the one command that would, and fails; with --or-go-on missing programs are no failure, unless
# VDE_MULTILINK_REQUIRE_CLIENTS is set: then no test may be skipped.
set -eu
may_fail=
if [ "$1" = --or-go-on ]; then
    shift
    [ -n "${VDE_MULTILINK_REQUIRE_CLIENTS:-}" ] || may_fail=1
fi

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=
for pair in "$@"; do
    case ${pair#*:} in
    import=*)
        "${PYTHON:-python3}" -c "import ${pair#*:import=}" 2>/dev/null && continue
        may_fail=
        ;;
    /*) [ -e "${pair#*:}" ] && continue ;;
    *) command -v "${pair#*:}" >/dev/null && continue ;;
    esac
    missing="$missing ${pair%%:*}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    # A repository that is down may well not be the one that is needed.
    apt-get update -qq || echo "apt-get update failed; going on with the lists that are there" >&2
    # shellcheck disable=SC2086 # a list of words
    exec apt-get install -qq --no-install-recommends -y -o Dpkg::Use-Pty=0 $missing >/dev/null
fi
echo "Missing:$missing. Install:  sudo sh -c 'apt-get update && apt-get install --no-install-recommends -y$missing'" >&2
[ -n "$may_fail" ]
