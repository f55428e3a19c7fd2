"""Busy clusters, looked at after each event (invariants.py): nothing leaks, nothing is counted twice, no packet vanishes."""

from __future__ import annotations

from typing import Any

import pytest

from kubenet.fabric.impair import DropMatching
from kubenet.units import MSEC, SEC
from tests.scenarios.invariants import unwatch, watch_invariants
from tests.scenarios.world import AF_INET, DGRAM, World, connect, deployment, http_get, listener, netexec, service, udp_ask

PORTS = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}, {"name": "raw", "port": 7000, "targetPort": 7000},
         {"name": "u", "port": 81, "targetPort": 8081, "protocol": "UDP"}]
WEB = service("web", "10.96.0.1", {"app": "web"}, PORTS, type="NodePort")


def echo(sys: Any) -> int:
    fd = listener(sys, 7000)
    while True:
        conn, _ = sys.accept(fd)
        sys.proc.thread(serve, sys, conn)


def serve(sys: Any, conn: int) -> None:
    try:
        while data := sys.recv(conn, 65536):
            sys.send_all(conn, data)
    except OSError:
        pass
    sys.close(conn)


def asker(sys: Any, count: int, log: list[str]) -> int:
    """HTTP, echo and UDP in turns; errors are part of life."""
    for n in range(count):
        try:
            log.append(http_get(sys, ("10.96.0.1", 80), "/hostname"))
            fd = connect(sys, ("10.96.0.1", 7000), SEC)
            sent = bytes(range(256)) * (n * 20)
            sys.send_all(fd, sent)
            sys.shutdown(fd, 1)
            got = b""
            while data := sys.recv(fd, 65536, 0, 5 * SEC):
                got += data
            assert sent.startswith(got), "what was read is no prefix of what was written"
            sys.close(fd)
            log.append(udp_ask(sys, ("10.96.0.1", 81), timeout=SEC))
        except OSError as error:
            log.append(f"errno {error.errno}")
        sys.sleep(20 * MSEC)
    return 0


def test_a_busy_cluster_loses_nothing(make: Any) -> None:
    """Three askers (pod, node, outside), two servers, everything at once."""
    w: World = make(docs=[WEB])
    watch = watch_invariants(w.cluster)
    for name in ("web-0", "web-1"):
        w.go(name, echo)
    w.run(0.1)
    log: list[str] = []
    jobs = [w.go(place, asker, 3, log) for place in ("client", "node-1")]
    w.go("outside", lambda sys: [http_get(sys, ("172.18.0.2", 30080)) for _ in range(3)])
    for job in jobs:
        w.wait(job)
    w.run(3)
    watch.finish()
    assert watch.events > 500 and len(log) == 12 and not [x for x in log if x.startswith("errno")], log


def test_with_losses_and_pods_that_go(make: Any) -> None:
    """A cable that loses every tenth packet, a rollout in the middle of transfers, a pod killed without grace."""
    w: World = make(docs=[WEB, deployment("extra", 2)])
    watch = watch_invariants(w.cluster)
    w.cluster.fabric.machines["node-1"].link.set(loss=0.1, reorder=0.05, duplicate=0.05, corrupt=0.02)
    for name in ("web-0", "web-1"):
        w.go(name, echo)
    w.run(0.1)
    log: list[str] = []
    jobs = [w.go("client", asker, 4, log) for _ in range(3)]
    w.run(0.05)
    w.delete("Pod", "web-0")
    w.cluster.apply_documents([deployment("extra", 0), netexec("web-2", "node-2", app="web")])
    w.run(30)
    assert all(job.done for job in jobs), log
    w.cluster.fabric.machines["node-1"].link.set(loss=0, reorder=0, duplicate=0, corrupt=0)
    w.run(200)
    watch.finish()
    assert watch.events > 1000


def test_resets_refusals_and_black_holes(make: Any) -> None:
    """Connections that fail in every way: refused, timed out, reset with data in flight, nobody at the address."""
    w: World = make(docs=[WEB, service("none", "10.96.0.40", {"app": "nobody"})])
    watch = watch_invariants(w.cluster)
    w.go("web-0", lambda sys: [sys.close(sys.accept(fd)[0]) for fd in [listener(sys, 7000)] for _ in range(3)])
    w.run(0.1)

    def fails(sys: Any, addr: tuple[str, int]) -> int:
        fd = connect(sys, addr, 3 * SEC)
        sys.proc.handlers[13] = lambda n: None
        for _ in range(5):
            sys.send(fd, bytes(5000))
            sys.sleep(100 * MSEC)
        return 0

    codes = [w.errno("client", fails, addr) for addr in
             (("10.96.0.40", 80), ("10.48.2.7", 9), ("10.48.2.7", 7000), ("10.48.1.222", 80), ("10.48.2.222", 80))]
    w.cluster.fabric.machines["node-2"].link.add_rule(DropMatching())
    codes.append(w.errno("client", fails, ("10.48.2.7", 8080)))
    assert codes[0] == codes[1] == 111 and 0 not in codes, codes
    w.run(200)
    watch.finish()


def test_watching_changes_nothing(make: Any) -> None:
    """The digest of a watched run is the digest of the run."""
    digests = []
    for watched in (True, False):
        w: World = make(docs=[WEB])
        watch = watch_invariants(w.cluster) if watched else None
        w.go("web-0", echo)
        w.run(0.1)
        w.do("client", asker, 2, [])
        w.run(1)
        if watch is not None:
            unwatch(watch)
        digests.append((w.cluster.digest(), w.loop.step, w.loop.now))
    assert digests[0] == digests[1]


def test_the_checks_do_find_something(make: Any) -> None:
    """A count that is off by one, memory that is not there, a packet without an end: each is named."""
    w: World = make(docs=[WEB])
    watch = watch_invariants(w.cluster)
    w.get("client", ("10.48.2.7", 8080))
    table = w.net("node-1").ct
    table.count += 1
    with pytest.raises(AssertionError, match="conntrack count"):
        watch.check()
    table.count -= 1
    w.run(2)  # the FINs cross, the sockets close
    sk = next(s for s in watch.sockets.values() if s.state == 7)
    sk.rmem_alloc += 1
    with pytest.raises(AssertionError, match="closed"):
        watch.finish()
    sk.rmem_alloc -= 1
    w.loop.tracer.open(w.loop.ids + 1, {"lost": True})
    with pytest.raises(AssertionError, match="lost its stations"):
        watch.finish()


def test_datagram_storm_is_accounted(make: Any) -> None:
    """A receiver that does not read: what does not fit is dropped and counted, and memory is given back when it closes."""
    w: World = make(docs=[WEB])
    watch = watch_invariants(w.cluster)

    def deaf(sys: Any) -> int:
        fd = sys.socket(AF_INET, DGRAM)
        sys.bind(fd, ("", 9000))
        sys.sleep(SEC)
        return 0

    def loud(sys: Any) -> int:
        fd = sys.socket(AF_INET, DGRAM)
        sys.connect(fd, ("10.48.2.7", 9000))
        sys.send(fd, bytes(1000))
        sys.sleep(SEC // 100)  # ARP is done: nothing waits, or is dropped, for it
        for _ in range(300):
            sys.send(fd, bytes(1000))
        return 0

    w.go("web-0", deaf)
    w.run(0.1)
    w.do("client", loud)
    w.run(2)
    watch.finish()
    snmp = w.net("web-0").snmp
    fits = 212992 // 2304  # the default buffer over what a datagram of 1000 bytes is charged; nothing was read, so no InDatagrams
    assert (snmp["UdpRcvbufErrors"], snmp["UdpInErrors"], snmp["UdpInDatagrams"]) == (301 - fits, 301 - fits, 0)
