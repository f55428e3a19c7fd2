"""What a person got wrong, and what we say about it.

Every error that a person can cause is a KubenetError: it carries what happened, why, where, and one command or
edit that helps. The command line prints it in this form on stderr and ends with `exit_code`:

    error: Service "web" not applied: spec.ports[0].port is 99999
      at:  web.yaml:9
      why: a port is a number from 1 to 65535
      try: port: 80

Mistakes of programs inside the emulation are OSError with Linux's errno; what the network does to packets is
never an exception (kernel/skbuff.py drop()); our own bugs are AssertionError and end the run.
"""

from __future__ import annotations


class KubenetError(Exception):
    """Something a person asked for cannot be done. `exit_code` follows the documented table (README, exit codes)."""

    exit_code = 1

    def __init__(self, what: str, why: str = "", try_: str = "", at: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.try_ = try_
        self.at = at

    def lines(self) -> list[str]:
        """The error as it is printed, one string a line."""
        out = [f"error: {self.what}"]
        for label, text in (("at", self.at), ("why", self.why), ("try", self.try_)):
            if text:
                first, *rest = text.splitlines()
                out.append(f"  {label + ':':4} {first}")
                out.extend(f"       {line}" for line in rest)
        return out

    def __str__(self) -> str:
        return "\n".join(self.lines())


class UsageError(KubenetError):
    """The command line or the request does not make sense."""

    exit_code = 2


class NotFoundError(KubenetError):
    """There is no such thing."""

    exit_code = 3


class ManifestError(KubenetError):
    """A manifest or lab file is invalid. `file`, `line` and `field` say where, as far as known."""

    exit_code = 4

    def __init__(
        self, what: str, file: str = "", line: int = 0, field: str = "", why: str = "", try_: str = "", at: str = ""
    ) -> None:
        where = at or (f"{file}:{line}" if file and line else file)
        super().__init__(what, why, try_, where)
        self.file = file
        self.line = line
        self.field = field


class NotReachedError(KubenetError):
    """A condition did not become true in the virtual time allowed."""

    exit_code = 5


class WrongMomentError(KubenetError):
    """The thing is possible, but not now: no cluster, no lab, no way back in time."""

    exit_code = 6


class StuckError(KubenetError):
    """The emulation cannot go on: a deadlock, a livelock or a program that never yields. `why` says who waits for what."""

    exit_code = 5
