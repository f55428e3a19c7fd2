"""-m string --string TEXT: the packet's data contains it.

simplified: the search covers the data behind the transport header, not the headers; --from, --to and --hex-string are not
there. `--algo` is kept for printing: both algorithms find the same.

Source: Linux string_mt() (xt_string.c); iptables libxt_string.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, text_of
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff


@xt_match("string")
@dataclass(frozen=True, slots=True)
class StringMatch(Match):
    """The data contains the text. Linux: string_mt()."""

    text: str
    algo: str
    icase: bool
    inv: bool
    OPTS = options(Opt("algo", text_of(15), mand=True), Opt("string", text_of(128), invert=True, mand=True), Opt("icase"))

    @classmethod
    def parse(cls, got: Got, head: Header) -> StringMatch:
        return cls(got.get("string", ""), got.get("algo", ""), got.get("icase", False), got.inv("string"))

    def _quoted(self) -> str:
        text = self.text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'

    def save(self) -> str:
        icase = " --icase" if self.icase else ""
        return f"{' !' if self.inv else ''} --string {self._quoted()} --algo {self.algo}{icase}"

    def listing(self, numeric: bool) -> str:
        icase = " ICASE" if self.icase else ""
        return f" STRING match {'!' if self.inv else ''} {self._quoted()} ALGO name {self.algo}{icase}"

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        data, text = bytes(skb.payload or b""), self.text.encode()
        if self.icase:
            data, text = data.lower(), text.lower()
        return (text in data) != self.inv
