#!/bin/sh
# A hand-off between two machines, with curl: the host of a multilink here moves from one ssh path to another.
#
#     here   vde-multilink serve multi:///tmp/vm1 --allow cmd       the VM is the host: vde:///tmp/vm1[host]
#     there  vde-multilink serve multi:///tmp/vm2                   the network that vm1 joins
#
#     here, vm1 ==== wifi: ssh ip1 vde_plug /tmp/vm2 ====> /tmp/vm2, there
#               \=== lte:  ssh ip2 vde_plug /tmp/vm2 ====/
#
# usage: remote_handoff.sh 'ssh ip1 vde_plug /tmp/vm2' 'ssh ip2 vde_plug /tmp/vm2' [ADDRESS-THERE]
#
# SOCKET is the service's api.sock; over TCP it would be curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8480/...
set -eu
first=$1 second=$2 address=${3-}
socket=${SOCKET:-${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/vde-multilink/api.sock}}
socket=${socket:-/run/vde-multilink/api.sock}

api() { # METHOD PATH [curl options]: prints the answer; a refusal is shown, and ends this script
    method=$1 path=$2
    shift 2
    curl --silent --show-error --fail-with-body --unix-socket "$socket" --request "$method" "http://localhost$path" "$@"
}

# The first path. Where the host has one already, this step is not needed.
api POST /links --data '{"url": "cmd://'"$first"'", "name": "wifi"}' >&2
echo >&2
[ -z "${PAUSE-}" ] || sleep "$PAUSE"

# The hand-off, in one request: make the second path, verify it, let both carry, drain the first. If the second one does
# not carry, it is taken out again, and the first has never been touched. `Prefer: wait` answers at its end.
verify='"auto"'
[ -z "$address" ] || verify='{"address": "'"$address"'"}'
answer=$(api POST /handoffs --header 'Prefer: wait=60' --data '{
    "to": {"url": "cmd://'"$second"'", "name": "lte"},
    "from": ["wifi"],
    "verify": '"$verify"',
    "overlap_s": 1
}')
printf '%s\n' "$answer"

# Exit with 0 if it was completed. (jq -e '.state == "completed"' says it more plainly, where there is jq.)
case $answer in *'"state":"completed"'*) exit 0 ;; *) exit 1 ;; esac
