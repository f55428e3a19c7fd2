"""Random conversations, on a real kernel and here: prints the first difference (needs root; not a test of the suite).

    unshare -n python tests/kernel/conntrack/fuzzdiff.py SEED COUNT [nat]
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
    if rng.random() < 0.3:  # the same ports again, over whatever is there
        opts = rng.choice(({"wscale": 9, "sack_perm": 1, "mss": 1460}, {}))
        packets += [talk.step() for _ in range(rng.randint(0, 6))]
        packets.append(talk.send("client", "S", seq=rng.getrandbits(32), **opts))
        packets.append(talk.send("server", "SA", **({"seq": rng.getrandbits(32)} if rng.random() < 0.5 else {}), **opts))
        packets.append(talk.send("client", "A"))
    packets += [talk.step() for _ in range(rng.randint(4, 14))]
    return {"name": f"fuzz{seed}", "packets": packets, "sysctl": {"nf_conntrack_tcp_loose": int(rng.random() < 0.8)}}


VIPS = ("10.96.0.1", "10.96.0.2")


def nat_conversation(seed: int) -> dict[str, Any]:
    """Flows of three protocols through DNAT, SNAT and MASQUERADE, with answers, strays and ICMP errors."""
    rng = random.Random(seed)
    rules: list[dict[str, Any]] = [
        {"chain": "PREROUTING", "proto": proto, "dst": vip, "dport": 80,
         "to": f"10.48.2.{rng.randint(7, 9)}:{rng.choice((80, 8080))}"}
        for proto in ("tcp", "udp") for vip in VIPS if rng.random() < 0.8]
    masq = rng.random() < 0.6
    if masq:
        rules.append({"chain": "POSTROUTING", "proto": "all", "out": "tun1", "to": "masquerade"})
    packets: list[dict[str, Any]] = []
    for i in range(rng.randint(2, 6)):
        packets += flow(rng, rules, masq, f"10.48.1.{5 + i}", 40000 + 7 * i)
    if rng.random() < 0.5:
        rng.shuffle(packets)
    return {"name": f"nat{seed}", "packets": packets, "rules": rules, "sysctl": {}}


def flow(rng: random.Random, rules: list[dict[str, Any]], masq: bool, src: str, sport: int) -> list[dict[str, Any]]:
    proto, dst = rng.choice(("tcp", "udp", "icmp")), rng.choice((*VIPS, "10.48.2.7"))
    rule = next((r for r in rules if r.get("dst") == dst and r["proto"] == proto), None)
    pod, port = (rule["to"].split(":") if rule else (dst, "80"))
    wire = "10.48.2.1" if masq else src
    if proto == "icmp":
        ask = {"from": "client", "proto": proto, "src": src, "dst": dst, "type": 8, "id": sport}
        answer = {"from": "server", "proto": proto, "src": dst, "dst": wire, "type": 0, "id": sport}
        sent = {**ask, "src": wire}
        out = [ask, answer]
    else:
        ask = {"from": "client", "proto": proto, "src": src, "sport": sport, "dst": dst, "dport": 80, "len": 8}
        answer = {"from": "server", "proto": proto, "src": pod, "sport": int(port), "dst": wire, "dport": sport, "len": 8}
        sent = {**ask, "src": wire, "dst": pod, "dport": int(port)}
        if proto == "tcp":
            tail = {"len": 0, "win": 64240}
            first = {**ask, **tail, "flags": "S", "seq": 1000}
            data = {**ask, "flags": "PA", "seq": 1001, "ack": 5001}
            sent = {**sent, "flags": "PA", "seq": 1001, "ack": 5001}
            back = {**answer, "flags": "A", "seq": 5001, "ack": 1009}
            out = [first, {**answer, **tail, "flags": "SA", "seq": 5000, "ack": 1001}, data, back]
        else:
            out = [ask, answer, ask]
    sent.pop("from", None)
    if rng.random() < 0.6:
        out.append({"from": "server", "proto": "icmp", "src": "10.48.2.99", "dst": wire, "type": rng.choice((3, 11)),
                    "code": 1, "quote": sent})
    if rng.random() < 0.4 and proto != "icmp":
        quoted = {k: v for k, v in out[1].items() if k != "from"} | {"src": dst, "sport": 80, "dst": src}
        out.append({"from": "client", "proto": "icmp", "src": "10.48.1.99", "dst": dst, "type": 3, "code": 3, "quote": quoted})
    if rng.random() < 0.3:
        out.append({**answer, "src": "10.48.2.66", **({"flags": "A", "seq": 1, "ack": 1} if proto == "tcp" else {})})
    return out


def main() -> None:
    router, first, count = Router(), int(sys.argv[1]), int(sys.argv[2])
    bad = 0
    for seed in range(first, first + count):
        recording = record(router, (nat_conversation if "nat" in sys.argv else conversation)(seed))
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
