"""-j CONNMARK: set the connection's mark, save the packet's mark there, or bring it back.

Source: Linux connmark_tg() (xt_connmark.c); iptables libxt_CONNMARK.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, mark_value, options
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.netfilter.xtables.targets.mark import OPERATIONS, mark_options, xmark, xmark_words
from kubenet.kernel.skbuff import SkBuff

_U32 = 0xFFFFFFFF
MODES = (*OPERATIONS, "save-mark", "restore-mark")


@xt_target("CONNMARK")
@dataclass(frozen=True, slots=True)
class ConnmarkTarget(Target):
    """mode set: value and ctmask; save, restore: nfmask and ctmask. Linux: connmark_tg()."""

    mode: str
    value: int
    ctmask: int
    nfmask: int
    CONNTRACK = True
    OPTS = options(
        *mark_options(),
        Opt("save-mark", excl=("restore-mark", *OPERATIONS)),
        Opt("restore-mark", excl=("save-mark", *OPERATIONS)),
        Opt("ctmask", mark_value), Opt("nfmask", mark_value), Opt("mask", mark_value, excl=("ctmask", "nfmask")),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> ConnmarkTarget:
        found = xmark(got)
        if found is not None:
            return cls("set", found[0], found[1], 0)
        mode = "save" if "save-mark" in got.values else "restore" if "restore-mark" in got.values else ""
        if not mode:
            raise XtablesError("CONNMARK target: No operation specified")
        both = got.get("mask", _U32)
        return cls(mode, 0, got.get("ctmask", both), got.get("nfmask", both))

    def save(self) -> str:
        if self.mode == "set":
            return f" --set-xmark {self.value:#x}/{self.ctmask:#x}"
        return f" --{self.mode}-mark --nfmask {self.nfmask:#x} --ctmask {self.ctmask:#x}"

    def listing(self, numeric: bool) -> str:
        if self.mode == "set":
            return " CONNMARK " + xmark_words(self.value, self.ctmask)
        if self.nfmask == self.ctmask == _U32:
            return f" CONNMARK {self.mode}"
        if self.nfmask == self.ctmask:
            return f" CONNMARK {self.mode} mask {self.ctmask:#x}"
        return f" CONNMARK {self.mode} nfmask {self.nfmask:#x} ctmask {self.ctmask:#x}"

    def compile(self, key: Key) -> Action:
        return self._run

    def _run(self, skb: SkBuff, ctx: Ctx) -> int:
        ct = skb.ct
        if ct is None:
            return CONTINUE
        if self.mode == "set":
            ct.mark = (ct.mark & ~self.ctmask & _U32) ^ self.value
        elif self.mode == "save":
            ct.mark = (ct.mark & ~self.ctmask & _U32) ^ (skb.mark & self.nfmask)
        else:
            skb.mark = (skb.mark & ~self.nfmask & _U32) ^ (ct.mark & self.ctmask)
        return CONTINUE
