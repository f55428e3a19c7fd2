"""Congestion control algorithms, by the name that tcp_congestion_control and `ss` use."""

from kubenet.kernel.tcp.congestion.base import CongestionControl, congestion_control, find_congestion_control
from kubenet.kernel.tcp.congestion.reno import Reno

__all__ = ["CongestionControl", "Reno", "congestion_control", "find_congestion_control"]
