"""arping of iputils 20221126: ARP requests by hand, and who answers.

The first request goes to everybody, the next ones to the one that answered (-b: to everybody all the same). -D asks from 0.0.0.0 whether
somebody has the address, -U and -A tell the neighbours that we have it.

Source: arping(8), observed output. simplified: the packet socket is a tap on the device that takes ARP alone.
"""

from __future__ import annotations

from typing import Any

from kubenet.kernel.dev.device import NetDevice, add_tap, remove_tap
from kubenet.kernel.ipv4.arp import arp_send
from kubenet.kernel.skbuff import ETH_P_ARP, SkBuff
from kubenet.sim.wait import WaitQueue
from kubenet.units import SEC
from kubenet.userland.process import SIGINT, Process
from kubenet.userland.resolver import ResolveError, lookup
from kubenet.userland.syscalls import AF_INET, SOCK_DGRAM
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import seconds
from kubenet.wire.addr import ip4, mac_text
from kubenet.wire.arp import ARPOP_REPLY, ARPOP_REQUEST

ETH_BROADCAST = 0xFFFFFFFFFFFF
USAGE = """
Usage:
  arping [options] <destination>

Options:
  -f            quit on first reply
  -q            be quiet
  -b            keep on broadcasting, do not unicast
  -D            duplicate address detection mode
  -U            unsolicited ARP mode, update your neighbours
  -A            ARP answer mode, update your neighbours
  -V            print version and exit
  -c <count>    how many packets to send
  -w <timeout>  how long to wait for a reply
  -i <interval> set interval between packets (default: 1 second)
  -I <device>   which ethernet device to use
  -s <source>   source ip address
  <destination> dns name or ip address

For more details see arping(8).
"""


class Refused(Exception):
    """What arping says before it exits with 2."""


class Arping:
    """One run."""

    def __init__(self, proc: Process, argv: list[str]) -> None:
        """Raises Refused."""
        self.proc = proc
        self.flags = ""
        self.values: dict[str, str] = {}
        self.target = ""
        self.replies: list[tuple[int, int, int]] = []  # MAC, when, sent to all of us
        self.wait = WaitQueue(proc.container.loop, "arping")
        rest = argv[1:]
        while rest:
            word = rest.pop(0)
            if not word.startswith("-") or word == "-":
                self.target = word
                continue
            for at, letter in enumerate(word[1:], start=2):
                if letter in "cwiIs":
                    self.values[letter] = word[at:] or (rest.pop(0) if rest else "")
                    break
                if letter not in "fqbDUAV":
                    raise Refused(f"arping: invalid option -- '{letter}'\n{USAGE}")
                self.flags += letter
        if not self.target and "V" not in self.flags:
            raise Refused(USAGE)

    def capture(self, dev: NetDevice, skb: SkBuff, outgoing: bool) -> None:
        """A frame came by; an answer from the target is kept. iputils: recv_pack()."""
        arp: Any = skb.ip
        if outgoing or skb.protocol != ETH_P_ARP or arp.spa != self.dst or skb.eth is None:
            return
        if arp.op not in (ARPOP_REQUEST, ARPOP_REPLY) or ("D" not in self.flags and arp.tpa != self.src):
            return
        self.replies.append((arp.sha, self.proc.container.loop.now, int(skb.eth.dst == ETH_BROADCAST)))
        self.wait.wake()

    def run(self) -> int:
        """Raises Refused."""
        proc = self.proc
        try:
            address = lookup(proc, self.target, AF_INET)[0][0][1]
        except ResolveError as error:
            raise Refused(f"arping: {self.target}: {error.text}\n") from None
        self.dst, dev = ip4(address), self._device(address)
        if set(self.flags) & {"U", "A"}:
            self.src = self.dst
        elif "D" in self.flags:
            self.src = 0
        else:
            self.src = ip4(self.values["s"]) if "s" in self.values else self._source(address)
        self._say(f"ARPING {address} from {_text(self.src)} {dev.name}\n")
        add_tap(dev, self)
        try:
            return self._loop(dev)
        finally:
            remove_tap(dev, self)

    def _device(self, address: str) -> NetDevice:
        """-I, else the one on whose network the target is."""
        net = self.proc.net
        name = self.values.get("I", "")
        mine = ip4(address)
        found = [net.devs[name]] if name in net.devs else [] if name else [
            each for each in net.devs.values()
            if each is not net.lo and any(mine >> (32 - a.plen) == a.addr >> (32 - a.plen) for a in each.ifaddrs)]
        if not found:
            raise Refused(f"arping: Device {name} not available.\n" if name else
                          "arping: Suitable device could not be determined. Please, use option -I.\n")
        dev: NetDevice = found[0]
        if dev is net.lo:
            raise Refused(f"arping: Interface \"{dev.name}\" is not ARPable\n" if name else "arping: Device lo not available.\n")
        return dev

    def _source(self, address: str) -> int:
        sys = self.proc.sys
        fd = sys.socket(AF_INET, SOCK_DGRAM)
        try:
            sys.connect(fd, (address, 1025))
            return ip4(sys.getsockname(fd)[0])
        finally:
            sys.close(fd)

    def _say(self, text: str) -> None:
        if "q" not in self.flags:
            self.proc.out(text)

    def _loop(self, dev: NetDevice) -> int:
        proc, sys = self.proc, self.proc.sys
        count = int(self.values.get("c", "0") or 0)
        interval = seconds(self.values["i"]) if "i" in self.values else SEC
        began = sys.now()
        end = began + seconds(self.values["w"]) if "w" in self.values else 0
        asked: list[int] = []
        proc.handlers[SIGINT] = asked.append
        sent = broadcasts = received = 0
        to = ETH_BROADCAST
        op = ARPOP_REPLY if "A" in self.flags else ARPOP_REQUEST
        while not asked and not (end and sys.now() >= end):
            if count and sent >= count:
                break
            arp_send(dev, op, self.dst, self.src, dev.addr if op == ARPOP_REPLY else ETH_BROADCAST, to)
            sent += 1
            broadcasts += to == ETH_BROADCAST
            at = sys.now()
            until = at + interval
            while sys.now() < until and not asked:
                sys.wait_on(self.wait, lambda: self.replies or asked, until - sys.now())
                while self.replies:
                    who, when, to_all = self.replies.pop(0)
                    received += 1
                    rtt = (when - at) // 1000
                    self._say(f"{'Broadcast' if to_all else 'Unicast'} reply from {_text(self.dst)} [{mac_text(who).upper()}]  "
                              f"{rtt // 1000}.{rtt % 1000:03d}ms\n")
                    to = to if "b" in self.flags else who
                    if "f" in self.flags or "D" in self.flags:
                        asked.append(0)
                if count and sent >= count and received >= sent:
                    break
        self._say(f"Sent {sent} probes ({broadcasts} broadcast(s))\nReceived {received} response(s)\n")
        if "D" in self.flags:
            return int(received > 0)
        return 0 if received or set(self.flags) & {"U", "A"} else 1


def _text(addr: int) -> str:
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


@tool("arping")
def arping(proc: Process, argv: list[str]) -> int:
    """arping [-fqbDUA] [-c COUNT] [-w TIMEOUT] [-i INTERVAL] [-I DEVICE] [-s SOURCE] DESTINATION"""
    try:
        run = Arping(proc, argv)
        if "V" in run.flags:
            proc.out("arping from iputils 20221126\n")
            return 0
        return run.run()
    except Refused as refused:
        proc.err(str(refused))
        return 2

