"""pause: a program that does nothing until it is told to end; and the first process of a node's container."""

from __future__ import annotations

from kubenet.userland.process import SIGINT, SIGTERM, Process
from kubenet.userland.tools import tool


@tool("pause", "node-init")
def main(proc: Process, argv: list[str]) -> int:
    """Sleep until SIGTERM or SIGINT; reap what becomes its child."""
    asked: list[int] = []
    proc.handlers[SIGTERM] = asked.append
    proc.handlers[SIGINT] = asked.append
    while not asked:
        proc.sys.pause(None)
    return 0
