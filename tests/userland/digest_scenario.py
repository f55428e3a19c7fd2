"""Prints the ledger's digest of a run with native and Python programs; test_digest.py runs it under several hash seeds."""

from __future__ import annotations

from pod_lab import Lab
from test_python import CLIENTS

lab = Lab()
box = lab.pod("client", "10.48.1.5")
server = lab.pod("server", "10.48.1.7", "python:3.12", command=["sleep", "infinity"])
lab.pod("web", "10.48.1.6", "nginx:1.27")
for program, client, _ in CLIENTS:
    lab.start(server, ["python3", "-c", program])
    lab.wait(0.5)
    lab.python(box, client)
for command in ("curl -s 10.48.1.6 | wc -c", "ping -c 3 10.48.1.6", "ss -tanp; ip a; ip n",
                "for i in 1 2; do curl -s 10.48.1.6 & done; wait"):
    lab.run(box, command)
print(lab.loop.ledger.digest(), lab.loop.step)
