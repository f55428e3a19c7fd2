"""Random conversations, on a real kernel and here: prints the first difference (needs root; not a test of the suite).

    unshare -n python tests/kernel/conntrack/fuzzdiff.py SEED COUNT
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

from record import Router, record  # noqa: E402
from replay import differences  # noqa: E402


class Talk:
    """Two sides that mostly speak TCP, with mistakes."""

    def __init__(self, rng: random.Random, sport: int) -> None:
        self.rng = rng
        self.ends = {"client": ("10.48.1.5", sport), "server": ("10.48.2.7", 80)}
        self.seq = {"client": rng.getrandbits(32), "server": rng.getrandbits(32)}

    def packet(self, side: str, flags: str, **more: Any) -> dict[str, Any]:
        other = "server" if side == "client" else "client"
        (src, sport), (dst, dport) = self.ends[side], self.ends[other]
        p = {"from": side, "src": src, "sport": sport, "dst": dst, "dport": dport, "flags": flags, "seq": self.seq[side],
             "ack": self.seq[other] if "A" in flags else 0, "win": self.rng.choice((64240, 500, 63, 1))}
        p.update(more)
        return p

    def send(self, side: str, flags: str, **more: Any) -> dict[str, Any]:
        p = self.packet(side, flags, **more)
        self.seq[side] = (p["seq"] + p.get("len", 0) + ("S" in flags) + ("F" in flags)) & 0xFFFFFFFF
        return p

    def step(self) -> dict[str, Any]:
        rng = self.rng
        side = rng.choice(("client", "server"))
        kind = rng.random()
        if kind < 0.5:
            return self.send(side, "A" if rng.random() < 0.5 else "PA", len=rng.choice((0, 0, 1, 100, 1460)))
        if kind < 0.62:
            return self.send(side, "FA")
        if kind < 0.72:
            return self.packet(side, rng.choice(("R", "RA")), seq=self.seq[side] + rng.choice((0, 0, 1, -1, 100, 70000)))
        if kind < 0.84:
            return self.packet(side, "S", seq=rng.getrandbits(32), wscale=7, sack_perm=1, mss=1460) if rng.random() < 0.5 \
                else self.send(side, "S", seq=rng.getrandbits(32))
        if kind < 0.92:
            return self.send(side, "SA", wscale=7, sack_perm=1, mss=1460)
        delta = rng.choice((-1, 1, -1000, 1000, 70000, -70000, 200000, 1 << 31))
        field = rng.choice(("seq", "ack"))
        p = self.packet(side, rng.choice(("A", "PA", "FA", "SA")), len=rng.choice((0, 10)))
        p[field] = (p[field] + delta) & 0xFFFFFFFF
        return p


def conversation(seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    talk = Talk(rng, 40000 + seed % 1000)
    packets: list[dict[str, Any]] = []
    if rng.random() < 0.8:
        opts: dict[str, Any] = {"wscale": 7, "sack_perm": 1, "mss": 1460} if rng.random() < 0.7 else {}
        packets.append(talk.send("client", "S", **opts))
        packets.append(talk.send("server", "SA", **opts))
        if rng.random() < 0.8:
            packets.append(talk.send("client", "A"))
    packets += [talk.step() for _ in range(rng.randint(4, 14))]
    return {"name": f"fuzz{seed}", "packets": packets, "sysctl": {"nf_conntrack_tcp_loose": int(rng.random() < 0.8)}}


def main() -> None:
    router, first, count = Router(), int(sys.argv[1]), int(sys.argv[2])
    bad = 0
    for seed in range(first, first + count):
        recording = record(router, conversation(seed))
        wrong = differences(recording)
        if wrong:
            bad += 1
            Path(f"/tmp/fuzz{seed}.json").write_text(json.dumps(recording, indent=1))
            print(seed, *wrong[:4], sep="\n   ")
            if bad > 5:
                break
    print(f"{count} conversations, {bad} differ")


if __name__ == "__main__":
    main()
