#!/usr/bin/env python3
"""A hand-off between two machines, with the project's own client; see remote_handoff.sh for who is where.

    remote_handoff.py 'ssh ip1 vde_plug /tmp/vm2' 'ssh ip2 vde_plug /tmp/vm2' [--verify 10.0.0.2] [--api unix:PATH]

Watches the new path afterwards, with the old one as a standby: if the new one fails, the old one takes over.
"""
# ruff: noqa: T201 -- its result is printed

from __future__ import annotations

import argparse
import sys
import time

from app.client import Client, ClientError, Handoff, MonitorSpec, find_service, handoff_request

OVER = {"completed", "rolled_back", "aborted"}


def main() -> int:
    """Do it; 0 if the host has moved."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("first", help="the command of the first path")
    parser.add_argument("second", help="the command of the second path")
    parser.add_argument("--verify", metavar="ADDRESS", help="an address there that has to answer over the new path")
    parser.add_argument("--api", metavar="ADDR", help="where the service is: unix:PATH, 127.0.0.1:8480")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between the first path and the hand-off")
    arguments = parser.parse_args()
    try:
        with Client(find_service(arguments.api)) as client:
            client.add_link(f"cmd://{arguments.first}", name="wifi")
            time.sleep(arguments.pause)
            done = hand_off(client, f"cmd://{arguments.second}", arguments.verify)
            if done["state"] == "completed" and arguments.verify:
                watch(client, arguments.verify)
    except ClientError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    show(done)
    return 0 if done["state"] == "completed" else 1


def hand_off(client: Client, url: str, address: str | None) -> Handoff:
    """Move to `url`, and keep the old path as a standby."""
    done = client.start_handoff(
        handoff_request(
            url=url,
            name="lte",
            old_links=["wifi"],
            verify={"address": address} if address else None,
            overlap_s=1,
            old="standby",
        ),
        wait_s=60,
    )
    while done["state"] not in OVER:  # it takes longer than we wanted to wait for an answer
        time.sleep(1)
        done = client.handoff(done["id"])
    return done


def watch(client: Client, address: str) -> None:
    """Ask the other side over both paths once a second, and fail over between them."""
    spec: MonitorSpec = {"address": address, "interval_s": 1}
    for name in ("wifi", "lte"):
        client.change_link(name, monitor=spec)
    client.change_multilink(client.link("lte")["multilink"], failover=True)


def show(done: Handoff) -> None:
    """What has become of it."""
    print(f"{done['state']}: {done['reason'] or done['verified_by']}")
    for phase in done["phases"]:
        print(f"  {phase['state']:<12} {phase['duration_s']:.2f} s")
    to_host = done["report"]["to_host"]
    print(f"  {to_host['frames']} frames to the host, {to_host['duplicates']} second copies dropped")
    for name, path in to_host["paths"].items():
        print(f"  {name}: first with {path['first']}, second with {path['later']}, never brought {path['missed']}")


if __name__ == "__main__":
    sys.exit(main())
