"""-m statistic: let one packet in n through, by dice or by counting. kube-proxy's load balancing.

For endpoints 1..n kube-proxy writes probabilities 1/n, 1/(n-1), ..., 1/2, and none for the last. The kernel keeps the
probability as a 31-bit integer, so 1/3 is 715827883/2^31 and prints as 0.33333333349; it compares it with 31 random bits.

Source: Linux statistic_mt() (xt_statistic.c); iptables libxt_statistic.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

RANDOM, NTH = 0, 1
_COUNT_LIMIT = 0xFFFFFFFF


def read_mode(text: str, ext: str, opt: str) -> int:
    """Reads random or nth."""
    if text not in ("random", "nth"):
        raise XtablesError(f'Bad mode "{text}"')
    return RANDOM if text == "random" else NTH


def read_probability(text: str, ext: str, opt: str) -> int:
    """Reads 0..1 as a 31-bit fraction: lround(2^31 * p)."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise XtablesError(f'{ext}: bad value for option "--{opt}", or out of range (0-1).\n')
    return int(value * 0x80000000 + 0.5)


@xt_match("statistic")
@dataclass(frozen=True, slots=True)
class StatisticMatch(Match):
    """True for a random share of packets, or for every n-th. Linux: statistic_mt()."""

    mode: int
    probability: int
    every: int
    packet: int
    inv: bool
    PURE = False
    OPTS = options(
        Opt("mode", read_mode, mand=True), Opt("probability", read_probability, invert=True),
        Opt("every", uint(1, _COUNT_LIMIT), invert=True, also=("packet",)), Opt("packet", uint(0, _COUNT_LIMIT), also=("every",)),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> StatisticMatch:
        mode = got.get("mode", RANDOM)
        if mode == RANDOM and "probability" not in got.values:
            raise XtablesError("--probability must be specified when using random mode")
        if mode == NTH and "every" not in got.values and "packet" not in got.values:
            raise XtablesError("--every and --packet must be specified when using nth mode")
        every, packet = got.get("every", 1), got.get("packet", 0)
        if packet > every - 1:
            raise XtablesError("the --packet p must be 0 <= p <= n-1")
        return cls(mode, got.get("probability", 0), every, packet, got.inv("probability") or got.inv("every"))

    def save(self) -> str:
        return self._text("--")

    def listing(self, numeric: bool) -> str:
        return " statistic" + self._text("")

    def _text(self, dashes: str) -> str:
        bang = " !" if self.inv else ""
        if self.mode == RANDOM:
            return f" {dashes}mode random{bang} {dashes}probability {self.probability / 0x80000000:.11f}"
        return f" {dashes}mode nth{bang} {dashes}every {self.every} {dashes}packet {self.packet}"

    def compile(self, key: Key) -> Predicate:
        inv = self.inv
        if self.mode == RANDOM:
            probability = self.probability

            def roll(skb: SkBuff, ctx: Ctx) -> bool:
                dice = ctx.net.random("statistic").u32() & 0x7FFFFFFF
                if skb.tr is not None:
                    ctx.dice = {"rolled": dice / 0x80000000, "below": probability / 0x80000000}
                return (dice < probability) != inv

            return roll
        last, start = self.every - 1, self.every - 1 - self.packet

        def count(skb: SkBuff, ctx: Ctx) -> bool:
            old = ctx.state.get(key, start)
            new = 0 if old == last else old + 1
            ctx.state[key] = new
            if skb.tr is not None:
                ctx.dice = {"count": new, "of": last + 1}
            return (new == 0) != inv

        return count
