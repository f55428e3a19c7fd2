"""The one error of the wire layer, and the base of its header records.

A header is a plain record with `__slots__`: positional `__init__` without checks (one is made per packet), equality by
value, and `copy()`. Bytes are made by `build_*` and read by `parse_*` in the file of each format. `parse_*` takes bytes
of strangers (pcap files, TUN devices, raw sockets), so it checks everything it relies on and raises only WireError.
`build_*` trusts its caller: a field that does not fit is our own bug and ends in struct.error.
"""

from __future__ import annotations

from collections.abc import Sequence


class WireError(ValueError):
    """These bytes are not what they should be; the text says which field and why."""


class Header:
    """Equality and repr by slots. Subclasses write `__init__` and `copy` out by hand, because those run per packet."""

    __slots__: Sequence[str] = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # NAT edits headers in place, so they are no keys

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"
