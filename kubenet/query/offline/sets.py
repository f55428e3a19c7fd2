"""The IP sets of a real node, from what `ipset save` printed."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

from kubenet.errors import ManifestError
from kubenet.kernel.netfilter.ipset import SetError
from kubenet.kernel.netns import NetNamespace
from kubenet.userland.tools.ipset import Tool, Usage

MOST = 65536  # elements of a line; `ipset save` writes one


def load_sets(net: NetNamespace, text: str, file: str) -> None:
    """The namespace has the sets. ManifestError with file and line."""
    nobody: Any = SimpleNamespace(net=net, out=len, err=len)  # a process that only has a network
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            words = shlex.split(line)
            if words[0] not in ("create", "add"):
                raise SetError(f"{words[0]!r} is no line of `ipset save`")
            tool = Tool(nobody)
            tool.most = MOST
            tool.run(words)
        except (SetError, Usage, ValueError, AttributeError, OverflowError, MemoryError) as error:
            raise ManifestError(f"{file}: a set cannot be read", file, number, why=str(error), try_="ipset save > sets") from None
