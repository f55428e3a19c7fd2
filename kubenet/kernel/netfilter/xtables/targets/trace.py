"""-j TRACE in the raw table: from here on every rule the packet meets writes a line into the kernel log.

The lines ("TRACE: filter:FORWARD:rule:2 IN=cni0 ...") are written by the interpreter, evaluate.py, which traced packets go
through.

Source: Linux trace_tg() (xt_TRACE.c), trace_packet() (ip_tables.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import SkBuff


@xt_target("TRACE")
@dataclass(frozen=True, slots=True)
class TraceTarget(Target):
    """The packet is traced. Linux: trace_tg()."""

    TABLES = ("raw",)

    @classmethod
    def parse(cls, got: Got, head: Header) -> TraceTarget:
        return cls()

    def compile(self, key: Key) -> Action:
        def trace_tg(skb: SkBuff, ctx: Ctx) -> int:
            skb.nf_trace = True
            return CONTINUE

        return trace_tg
