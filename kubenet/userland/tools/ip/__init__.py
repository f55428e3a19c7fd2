"""ip: one object a file, `main` has the command line."""

from kubenet.userland.tools.ip.main import ip

__all__ = ["ip"]
