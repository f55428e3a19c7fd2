"""The engine process: `python -m kubenet.engine.main --fd N --session DIR`, started by the front.

It holds the emulation and nothing else: no asyncio, no threads, no TLS, so that it can fork. Automatic garbage collection is off
(the event loop collects at fixed steps). Its life is bound to the front's: end of file on the connection ends it.

Three ways lead into the service loop: the start, an undo that promoted this process from checkpoint to engine, and a query
that runs the past again in a grandchild, answers and ends.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from kubenet.cluster.cluster import Cluster
from kubenet.engine import checkpoint, frames
from kubenet.engine.engine import Engine
from kubenet.engine.journal import Journal
from kubenet.engine.service import Service, error_json
from kubenet.errors import KubenetError
from kubenet.query import trace as trace_query
from kubenet.userland import watchdog

RUNAWAY_AFTER = 10.0  # host seconds that a program may compute without a system call


def build(settings: dict[str, Any]) -> Cluster:
    """The cluster that a session's settings describe, at time zero."""
    return Cluster(topology=settings.get("topology"), seed=int(settings["seed"]), epoch=int(settings["epoch"]),
                   allow_pod_code=bool(settings.get("allow_pod_code")))


def main(argv: list[str] | None = None) -> int:
    """Serve until the front goes away."""
    parser = argparse.ArgumentParser(prog="kubenet-engine")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--session", type=Path, required=True)
    options = parser.parse_args(argv)
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the command line
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # checkpoints are reaped by the system
    front = socket.socket(fileno=options.fd)
    engine = Engine(Journal(options.session / "journal.sqlite"), build)
    service = Service(engine, front, options.session.name)
    try:
        start = frames.receive(front)
        if start is None:
            return 0
        header = start[0]
        try:
            engine.start(header["settings"], progress=lambda done, total: _progress(front, done, total),
                         anyway=bool(header.get("anyway")))
        except KubenetError as error:
            frames.send(front, {"ready": False, "error": error_json(error)})
            return 0
        engine.private_fds = [front]
        watchdog.enable(RUNAWAY_AFTER)
        frames.send(front, {"ready": True, "pid": os.getpid()})
    except Exception as error:  # a bug of ours: say so to whoever waits, and leave the traceback in the log
        traceback.print_exc()
        frames.send(front, {"ready": False, "error": _bug(error)})
        return 70
    return _serve(service)


def _progress(front: socket.socket, done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        frames.send(front, {"replayed": done, "total": total})


def _bug(error: Exception) -> dict[str, Any]:
    return {"what": f"a bug in kubenet: {type(error).__name__}: {error}", "why": "", "at": "", "exit": 70,
            "try": "send the session's journal.sqlite and log", "kind": "Bug"}


def _serve(service: Service) -> int:
    """The service loop, through promotions and queries."""
    while True:
        try:
            service.serve()
            service.engine.journal.close()
            return 0
        except checkpoint.Promoted as promoted:
            _become_engine(service, promoted)
        except checkpoint.Grandchild as grandchild:
            _answer_query(service, grandchild)
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            service.reply({"id": 0, "fatal": True, "error": _bug(error)})
            return 70


def _become_engine(service: Service, promoted: checkpoint.Promoted) -> None:
    """This process was a checkpoint; now it is the engine. The undone inputs go, the state moves to where they began."""
    engine = service.engine
    gc.unfreeze()
    watchdog.enable(RUNAWAY_AFTER)  # timers of the host do not cross a fork
    service.front = promoted.front
    engine.private_fds = [promoted.front]
    service.unpacker = frames.Unpacker()
    service.streams.clear()
    service.execs.clear()
    engine.waits.clear()
    engine.outputs.clear()
    engine.journal.truncate(int(promoted.order["first"]))
    service.reply({"id": promoted.order["id"], **service.rewound(promoted.order), "pid": os.getpid()})


def _answer_query(service: Service, grandchild: checkpoint.Grandchild) -> None:
    """Run the stretch after this state again with one packet armed, answer with its stations, and end."""
    order, engine = grandchild.order, service.engine
    try:
        engine.waits.clear()
        engine.outputs.clear()
        engine.can_fork = False
        engine.cluster.loop.tracer.want[int(order["packet"])] = True
        engine.replay(until=int(order["until_seq"]))
        engine.advance(int(order["step"]), int(order["now"]))
        frames.send(grandchild.answer, {"trace": trace_query.packet_json(engine.cluster, int(order["packet"]))})
    except BaseException:
        traceback.print_exc()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
