"""Plays a recording (record.py) here and says where the real kernel did something else."""

from __future__ import annotations

import re
from typing import Any

from ctworld import World, shown

_TIMEOUT = re.compile(r"^(\S+ +\d+ )(\d+) ")


def split(line: str) -> tuple[str, int]:
    """The line without its timeout, and the timeout."""
    found = _TIMEOUT.match(line)
    assert found, line
    return found[1] + line[found.end():], int(found[2])


_PORT = re.compile(r"\b(sport|dport|id)=(\d+)")


def known_ports(recording: dict[str, Any]) -> set[int]:
    """Ports and ids that packets and rules name; any other was drawn at random, in both worlds."""
    text = repr([step["packet"] for step in recording["steps"]]) + repr(recording["rules"])
    return {int(word) for word in re.findall(r"\d+", text)}


def anonymous(line: str, known: set[int]) -> str:
    """The line with the class of a random port in its place."""
    def name(found: re.Match[str]) -> str:
        port = int(found[2])
        if port in known:
            return found[0]
        low = "id" if found[1] == "id" else "1-511" if port < 512 else "600-1023" if 600 <= port < 1024 else "1024-65535"
        return f"{found[1]}={low if port >= 1024 or port < 512 or port >= 600 else port}"

    return _PORT.sub(name, line)


def anonymous_out(out: dict[str, Any] | None, known: set[int]) -> dict[str, Any] | None:
    """The packet without random ports and ids."""
    if out is None:
        return None
    drawn: dict[str, Any] = {key: "random" for key in ("sport", "dport") if key in out and out[key] not in known}
    if "rest" in out and out["rest"] >> 16 not in known and "quote" not in out:
        drawn["rest"] = "random"
    if "quote" in out:
        drawn["quote"] = anonymous_out(out["quote"], known)
    return {**out, **drawn}


def same_lines(ours: list[str], real: list[str]) -> bool:
    """Equal but for the order, which is the hash's, and a second of timeout."""
    mine, theirs = dict(map(split, ours)), dict(map(split, real))
    return mine.keys() == theirs.keys() and all(abs(mine[k] - theirs[k]) <= 1 for k in mine)


def differences(recording: dict[str, Any]) -> list[str]:
    """One text per difference; empty if all is the same."""
    world = World(recording["rules"])
    for name, value in recording["sysctl"].items():
        setattr(world.net.sysctl.netfilter, name, value)
    wrong, known = [], known_ports(recording)
    for number, step in enumerate(recording["steps"], 1):
        world.at(step["t"])
        out = shown(world.deliver(step["packet"]))
        if anonymous_out(out, known) != anonymous_out(step["out"], known):
            wrong.append(f"step {number} {step['packet']}: out {out}, real {step['out']}")
        world.at(step["listed"])
        if not same_lines([anonymous(x, known) for x in world.lines()], [anonymous(x, known) for x in step["entries"]]):
            wrong.append(f"step {number} {step['packet']}: entries {world.lines()}, real {step['entries']}")
    return wrong
