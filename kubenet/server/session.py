"""Where a session lives on disk, and who runs it.

    $KUBENET_HOME, else $XDG_STATE_HOME/kubenet, else ~/.local/state/kubenet
      sessions/NAME/   journal.sqlite  front.sock  front.lock  kubeconfig  ca.pem  tls.pem  token  log

The directory is 0700 and everything that grants power is 0600. `front.lock` is held (flock) by the one front that serves the
session; the lock goes with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

from kubenet.errors import KubenetError, UsageError, WrongMomentError

DEFAULT = "default"


def home() -> Path:
    """The directory of all sessions' state."""
    if path := os.environ.get("KUBENET_HOME"):
        return Path(path)
    if path := os.environ.get("XDG_STATE_HOME"):
        return Path(path) / "kubenet"
    return Path.home() / ".local" / "state" / "kubenet"


class Session:
    """The files of one session."""

    def __init__(self, name: str = "") -> None:
        self.name = name or os.environ.get("KUBENET_SESSION") or DEFAULT
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", self.name):
            raise UsageError(f"{self.name!r} is no name for a session", why="letters, digits, dot, dash and underscore are",
                             try_="kubenet --session mine up")
        self.dir = home() / "sessions" / self.name
        self.journal = self.dir / "journal.sqlite"
        self.socket = self.dir / "front.sock"
        self.lock = self.dir / "front.lock"
        self.log = self.dir / "log"
        self.kubeconfig = self.dir / "kubeconfig"

    def make(self) -> None:
        """The directory is there, for this user only. Raises KubenetError."""
        try:
            self.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise KubenetError(f"the session's directory {self.dir} cannot be made", why=str(error),
                               try_="export KUBENET_HOME=/some/writable/directory") from error
        if len(str(self.socket).encode()) > 100:
            raise KubenetError(f"the path {self.socket} is too long for a unix socket (107 bytes)",
                               try_="export KUBENET_HOME=/tmp/kubenet-$USER")

    def exists(self) -> bool:
        """True if there is a journal."""
        return self.journal.exists()

    def running(self) -> bool:
        """True if a front holds the lock."""
        if not self.lock.exists():
            return False
        with self.lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def acquire(self) -> int:
        """The descriptor that holds the lock. Raises WrongMomentError if another front has it."""
        fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise WrongMomentError(f"session {self.name} is already being served by another process",
                                   why=f"{self.lock} is locked by process {self.pid() or '?'}",
                                   try_="kubenet status   (talks to it), or kubenet --session OTHER up") from None
        os.truncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        return fd

    def pid(self) -> int:
        """The front's process id; 0 if unknown."""
        try:
            return int(self.lock.read_text() or 0)
        except (OSError, ValueError):
            return 0

    def forget_journal(self) -> None:
        """There is no session any more, or not yet: its journal is gone, its log stays."""
        for path in sorted(self.dir.glob(self.journal.name + "*")):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Everything of the session is gone from disk."""
        for path in sorted(self.dir.glob("*")) if self.dir.exists() else []:
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            self.dir.rmdir()

    @staticmethod
    def all() -> list[Session]:
        """Every session that has a directory, by name."""
        base = home() / "sessions"
        return [Session(path.name) for path in sorted(base.iterdir()) if path.is_dir()] if base.exists() else []
