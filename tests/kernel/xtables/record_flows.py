"""Sends flows.py's packets through a real router and writes its counters to recordings/flows.json. Needs root.

    python tests/kernel/xtables/record_flows.py

Three namespaces of its own: client, router, web. The packets leave the client by a packet socket, one every 5 ms.
"""

from __future__ import annotations

# ruff: noqa: E501
import ctypes
import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))
from flows import CLIENT_MAC, PACKETS, RULESETS, to_bytes  # noqa: E402

NAMES = {side: f"xtf{side}{os.getpid()}" for side in "crw"}
ROUTER_MAC = "02:00:00:00:00:11"


def sh(side: str, line: str, text: str | None = None) -> str:
    done = subprocess.run(["ip", "netns", "exec", NAMES[side], *line.split()], input=text, capture_output=True, text=True, check=True)
    return done.stdout


def build() -> None:
    for name in NAMES.values():
        subprocess.run(["ip", "netns", "add", name], check=True)
    for side in "cw":
        subprocess.run(["ip", "link", "add", f"veth{side}", "netns", NAMES["r"], "type", "veth", "peer", "name", "eth0", "netns", NAMES[side]],
                       check=True)
    sh("c", f"ip link set eth0 address {CLIENT_MAC}")
    sh("r", f"ip link set vethc address {ROUTER_MAC}")
    for side, dev, addr in (("c", "eth0", "10.48.1.5"), ("w", "eth0", "10.48.2.7"), ("r", "vethc", "10.48.1.1"), ("r", "vethw", "10.48.2.1")):
        sh(side, f"sysctl -qw net.ipv6.conf.{dev}.disable_ipv6=1")
        sh(side, f"ip addr add {addr}/24 dev {dev}")
        sh(side, f"ip link set {dev} up")
    sh("r", "sysctl -qw net.ipv4.ip_forward=1")
    sh("w", "iptables-legacy -A INPUT -j DROP")
    sh("r", "ping -c1 -W1 10.48.1.5")


def send() -> None:
    pid = os.fork()
    if pid == 0:
        fd = os.open(f"/run/netns/{NAMES['c']}", os.O_RDONLY)
        if ctypes.CDLL(None).setns(fd, 0x40000000) != 0:
            os._exit(1)
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind(("eth0", 0x0800))
        head = bytes.fromhex(ROUTER_MAC.replace(":", "") + CLIENT_MAC.replace(":", "") + "0800")
        for p in PACKETS:
            raw.send(head + to_bytes(p))
            time.sleep(0.005)
        os._exit(0)
    os.waitpid(pid, 0)
    time.sleep(0.2)


def main() -> None:
    result = {}
    try:
        for name, text in RULESETS.items():
            build()
            sh("r", "iptables-legacy-restore", text)
            send()
            result[name] = sh("r", "iptables-legacy-save -c")
            for netns in NAMES.values():
                subprocess.run(["ip", "netns", "del", netns], check=True)
    finally:
        for netns in NAMES.values():
            subprocess.run(["ip", "netns", "del", netns], capture_output=True, check=False)
    head = {"kernel": platform.release(), "command": "record_flows.py"}
    (Path(__file__).parent / "recordings" / "flows.json").write_text(json.dumps({**head, "flows": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
