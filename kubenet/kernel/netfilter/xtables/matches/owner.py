"""-m owner: who made a packet of our own.

Source: Linux owner_mt() (xt_owner.c); iptables libxt_owner.c. simplified:
groups are the user's number; --suppl-groups is not there.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, number, options
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

Range = tuple[int, int]


def read_ids(text: str, ext: str, opt: str) -> Range:
    """Reads n, n-m, or root."""
    if text == "root":
        return 0, 0
    first, dash, last = text.partition("-")
    low, high = number(first), number(last if dash else first)
    if low is None or high is None:
        raise XtablesError(f'{ext}: Bad value for "--{opt}" option: "{text}"')
    return low, high


def ids_text(value: Range) -> str:
    """n, or n-m."""
    return str(value[0]) if value[0] == value[1] else f"{value[0]}-{value[1]}"


@xt_match("owner")
@dataclass(frozen=True, slots=True)
class OwnerMatch(Match):
    """The packet's socket belongs to this user. Linux: owner_mt()."""

    uid: Range | None
    gid: Range | None
    sock: bool
    uid_inv: bool
    gid_inv: bool
    sock_inv: bool
    HOOKS = 0b11000
    OPTS = options(Opt("uid-owner", read_ids, invert=True), Opt("gid-owner", read_ids, invert=True),
                   Opt("socket-exists", invert=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> OwnerMatch:
        if not got.values:
            raise XtablesError("owner: At least one of --uid-owner, --gid-owner or --socket-exists is required")
        return cls(got.get("uid-owner"), got.get("gid-owner"), got.get("socket-exists", False), got.inv("uid-owner"),
                   got.inv("gid-owner"), got.inv("socket-exists"))

    def save(self) -> str:
        return self._text("", "--socket-exists", "--uid-owner", "--gid-owner")

    def listing(self, numeric: bool) -> str:
        text = self._text("owner ", "socket exists", "UID match", "GID match")
        return text if numeric else text.replace("UID match 0", "UID match root").replace("GID match 0", "GID match root")

    def _text(self, front: str, sock: str, uid: str, gid: str) -> str:
        out = ""
        if self.sock:
            out += f"{' !' if self.sock_inv else ''} {front}{sock}"
        if self.uid is not None:
            out += f"{' !' if self.uid_inv else ''} {front}{uid} {ids_text(self.uid)}"
        if self.gid is not None:
            out += f"{' !' if self.gid_inv else ''} {front}{gid} {ids_text(self.gid)}"
        return out

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        sk = skb.sk
        if self.sock and (sk is not None) == self.sock_inv:
            return False
        if sk is None:
            return (self.uid is None or self.uid_inv) and (self.gid is None or self.gid_inv)
        if self.uid is not None and (self.uid[0] <= sk.uid <= self.uid[1]) == self.uid_inv:
            return False
        return self.gid is None or (self.gid[0] <= sk.uid <= self.gid[1]) != self.gid_inv
