"""Checkpoints are forks.

A child made by os.fork() holds the whole state, parked greenlets included, and shares its pages until one side writes
(measured: 1 ms at 25 MB). It then waits on a socket for one of three words:

    promote   it becomes the engine: the front's connection comes with the message, the old engine has gone
    query     it forks a grandchild that goes on from here, answers and ends; the checkpoint itself stays untouched
    end       or end of file: the engine does not need it any more, or died

They are a cache of the journal: what they answer, a replay from the start answers too, slower. About KEEP are kept, thinned
out so that their distances grow with age.
"""

from __future__ import annotations

import gc
import os
import socket
from dataclasses import dataclass
from typing import Any

from kubenet.engine import frames

KEEP = 16
NEWEST = 4  # never thinned


@dataclass(slots=True)
class Checkpoint:
    """The engine's handle on one forked copy, taken after input `seq` at (step, time); `ids` is the last packet id."""

    pid: int
    seq: int
    step: int
    time: int
    ids: int
    sock: socket.socket

    def end(self) -> None:
        """The copy exits."""
        self.sock.close()


class Promoted(BaseException):
    """Raised in the checkpoint's process when it becomes the engine. `front` is the connection to the front."""

    def __init__(self, order: dict[str, Any], front: socket.socket) -> None:
        super().__init__("promoted")
        self.order = order
        self.front = front


class Grandchild(BaseException):
    """Raised in a query's process; it answers on `answer` and exits."""

    def __init__(self, order: dict[str, Any], answer: socket.socket) -> None:
        super().__init__("query")
        self.order = order
        self.answer = answer


def take(seq: int, step: int, time: int, ids: int, close_in_child: list[socket.socket]) -> Checkpoint:
    """Fork a copy of this process. Returns in the parent; in the child Promoted or Grandchild is raised some day."""
    ours, theirs = socket.socketpair()
    gc.freeze()
    pid = os.fork()
    if pid:
        gc.unfreeze()
        theirs.close()
        return Checkpoint(pid, seq, step, time, ids, ours)
    ours.close()
    for sock in close_in_child:
        sock.close()
    _wait_as_checkpoint(theirs)
    raise AssertionError("a checkpoint never returns")


def _wait_as_checkpoint(sock: socket.socket) -> None:
    while True:
        data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 1)
        if not data:
            os._exit(0)
        order = frames.Unpacker().feed(data)[0][0]
        if order["op"] == "promote":
            sock.close()
            raise Promoted(order, socket.socket(fileno=fds[0]))
        if order["op"] == "query" and os.fork() == 0:
            raise Grandchild(order, sock)


def promote(checkpoint: Checkpoint, order: dict[str, Any], front: socket.socket) -> None:
    """Hand the front's connection to the checkpoint, which goes on as the engine. The caller must exit."""
    data = frames.pack({"op": "promote", **order})
    socket.send_fds(checkpoint.sock, [data], [front.fileno()])


def query(checkpoint: Checkpoint, order: dict[str, Any]) -> frames.Frame | None:
    """The answer of a copy of the checkpoint that went on as `order` says; None if it died."""
    checkpoint.sock.sendall(frames.pack({"op": "query", **order}))
    return frames.receive(checkpoint.sock)


def thin(checkpoints: list[Checkpoint]) -> None:
    """Keep at most KEEP, the newest all, older ones at growing distances. Oldest first in the list."""
    while len(checkpoints) > KEEP:
        newest = checkpoints[-1].seq
        candidates = range(1, len(checkpoints) - NEWEST)
        least = min(candidates, key=lambda i: _worth(checkpoints, i, newest))
        checkpoints.pop(least).end()


def _worth(checkpoints: list[Checkpoint], i: int, newest: int) -> float:
    """How much replay checkpoint i saves, relative to its age."""
    gap = checkpoints[i + 1].seq - checkpoints[i - 1].seq
    return gap / (newest - checkpoints[i].seq + 1)
