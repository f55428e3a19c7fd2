"""Sysctls by kernel name, with Linux's defaults and units, as data.

Each section is a class whose class attributes are the names and defaults of the profile linux-6.18; an instance stores only
what was written. So code reads `net.sysctl.ipv4.tcp_retries2`, a namespace that never wrote anything costs nothing, and
`sysctl -a` walks the annotations. Per-device families (net.ipv4.conf.*, net.ipv4.neigh.*) are looked up with conf(name).

Sources: Linux Documentation/networking/ip-sysctl.rst, nf_conntrack-sysctl.rst, admin-guide/sysctl/net.rst; values read on a
6.18 kernel in a fresh network namespace.
"""

from __future__ import annotations


class Section:
    """Defaults on the class, written values on the instance."""

    def names(self) -> list[str]:
        """Every sysctl of this section, sorted as `sysctl -a` sorts."""
        return sorted(name for cls in type(self).__mro__ for name in getattr(cls, "__annotations__", {}))


class CoreSysctl(Section):
    """net.core.*"""

    somaxconn: int = 4096  # the most listen(2) may ask for
    rmem_default: int = 212992
    wmem_default: int = 212992
    rmem_max: int = 4194304
    wmem_max: int = 4194304
    optmem_max: int = 131072
    netdev_max_backlog: int = 1000  # packets
    netdev_budget: int = 300
    dev_weight: int = 64
    devconf_inherit_init_net: int = 0
    txrehash: int = 1
    default_qdisc: str = "pfifo_fast"


class Ipv4Sysctl(Section):
    """net.ipv4.* without conf and neigh. Seconds unless the name or comment says otherwise."""

    ip_forward: int = 0
    ip_default_ttl: int = 64
    ip_local_port_range: tuple[int, int] = (32768, 60999)
    ip_unprivileged_port_start: int = 1024
    ip_no_pmtu_disc: int = 0
    ip_forward_use_pmtu: int = 0
    ip_nonlocal_bind: int = 0
    ip_autobind_reuse: int = 0
    ip_early_demux: int = 1
    ip_dynaddr: int = 0
    ipfrag_time: int = 30
    ipfrag_high_thresh: int = 4194304
    ipfrag_low_thresh: int = 3145728
    ipfrag_max_dist: int = 64
    icmp_ratelimit: int = 1000  # ms between two errors to one target
    icmp_ratemask: int = 6168
    icmp_msgs_per_sec: int = 1000
    icmp_msgs_burst: int = 50
    icmp_echo_ignore_all: int = 0
    icmp_echo_ignore_broadcasts: int = 1
    icmp_ignore_bogus_error_responses: int = 1
    ping_group_range: tuple[int, int] = (0, 2147483647)  # as container runtimes set it
    igmp_max_memberships: int = 20
    fwmark_reflect: int = 0
    fib_multipath_hash_policy: int = 0
    udp_rmem_min: int = 4096
    udp_wmem_min: int = 4096
    udp_early_demux: int = 1
    udp_mem: tuple[int, int, int] = (575802, 767738, 1151604)  # pages
    tcp_rmem: tuple[int, int, int] = (4096, 131072, 33554432)
    tcp_wmem: tuple[int, int, int] = (4096, 16384, 4194304)
    tcp_mem: tuple[int, int, int] = (287901, 383869, 575802)  # pages
    tcp_limit_output_bytes: int = 4194304
    tcp_window_scaling: int = 1
    tcp_timestamps: int = 1
    tcp_sack: int = 1
    tcp_dsack: int = 1
    tcp_adv_win_scale: int = 1
    tcp_app_win: int = 31
    tcp_moderate_rcvbuf: int = 1
    tcp_shrink_window: int = 0
    tcp_syn_retries: int = 6
    tcp_syn_linear_timeouts: int = 4
    tcp_synack_retries: int = 5
    tcp_syncookies: int = 1
    tcp_max_syn_backlog: int = 2048
    tcp_abort_on_overflow: int = 0
    tcp_retries1: int = 3
    tcp_retries2: int = 15
    tcp_orphan_retries: int = 0
    tcp_rto_min_us: int = 200000
    tcp_rto_max_ms: int = 120000
    tcp_early_retrans: int = 3
    tcp_recovery: int = 1
    tcp_frto: int = 2
    tcp_fin_timeout: int = 60
    tcp_max_tw_buckets: int = 131072
    tcp_max_orphans: int = 131072
    tcp_tw_reuse: int = 2
    tcp_tw_reuse_delay: int = 1000  # ms
    tcp_rfc1337: int = 0
    tcp_keepalive_time: int = 7200
    tcp_keepalive_intvl: int = 75
    tcp_keepalive_probes: int = 9
    tcp_invalid_ratelimit: int = 500  # ms
    tcp_challenge_ack_limit: int = 2147483647
    tcp_pingpong_thresh: int = 1
    tcp_slow_start_after_idle: int = 1
    tcp_no_metrics_save: int = 0
    tcp_no_ssthresh_metrics_save: int = 1
    tcp_reordering: int = 3
    tcp_max_reordering: int = 300
    tcp_comp_sack_delay_ns: int = 1000000
    tcp_comp_sack_nr: int = 44
    tcp_comp_sack_slack_ns: int = 100000
    tcp_min_tso_segs: int = 2
    tcp_tso_win_divisor: int = 3
    tcp_tso_rtt_log: int = 9
    tcp_pacing_ss_ratio: int = 200
    tcp_pacing_ca_ratio: int = 120
    tcp_autocorking: int = 1
    tcp_retrans_collapse: int = 1
    tcp_notsent_lowat: int = 4294967295
    tcp_mtu_probing: int = 0
    tcp_base_mss: int = 1024
    tcp_min_snd_mss: int = 48
    tcp_probe_interval: int = 600
    tcp_probe_threshold: int = 8
    tcp_mtu_probe_floor: int = 48
    tcp_ecn: int = 2
    tcp_ecn_fallback: int = 1
    tcp_ecn_option: int = 2
    tcp_ecn_option_beacon: int = 3
    tcp_fastopen: int = 1
    tcp_fastopen_blackhole_timeout_sec: int = 0
    tcp_min_rtt_wlen: int = 300
    tcp_thin_linear_timeouts: int = 0
    tcp_stdurg: int = 0
    tcp_early_demux: int = 1
    tcp_backlog_ack_defer: int = 1
    tcp_fack: int = 0
    tcp_reflect_tos: int = 0
    tcp_plb_enabled: int = 0
    tcp_migrate_req: int = 0
    tcp_fwmark_accept: int = 0
    tcp_l3mdev_accept: int = 0
    tcp_workaround_signed_windows: int = 0
    tcp_congestion_control: str = "cubic"
    tcp_available_congestion_control: str = "reno cubic"
    tcp_allowed_congestion_control: str = "reno cubic"


class RouteSysctl(Section):
    """net.ipv4.route.*"""

    mtu_expires: int = 600
    min_pmtu: int = 552
    min_adv_mss: int = 256


class Ipv4Conf(Section):
    """net.ipv4.conf.DEV.*: of one device, of `all`, or `default`, from which a new device copies."""

    accept_local: int = 0
    accept_redirects: int = 1
    accept_source_route: int = 0
    arp_accept: int = 0
    arp_announce: int = 0
    arp_filter: int = 0
    arp_ignore: int = 0
    arp_notify: int = 0
    forwarding: int = 0
    log_martians: int = 0
    proxy_arp: int = 0
    route_localnet: int = 0
    rp_filter: int = 0
    secure_redirects: int = 1
    send_redirects: int = 1
    shared_media: int = 1
    src_valid_mark: int = 0


class NeighConf(Section):
    """net.ipv4.neigh.DEV.*"""

    app_solicit: int = 0
    base_reachable_time_ms: int = 30000
    delay_first_probe_time: int = 5
    gc_stale_time: int = 60
    locktime: int = 100  # in 1/100 s
    mcast_resolicit: int = 0
    mcast_solicit: int = 3
    proxy_delay: int = 80
    proxy_qlen: int = 64
    retrans_time_ms: int = 1000
    ucast_solicit: int = 3
    unres_qlen_bytes: int = 212992


class ConntrackSysctl(Section):
    """net.netfilter.nf_conntrack_*; timeouts in seconds. nf_conntrack_max lives on the Host, as in Linux."""

    nf_conntrack_acct: int = 0
    nf_conntrack_checksum: int = 1
    nf_conntrack_events: int = 2
    nf_conntrack_expect_max: int = 4096
    nf_conntrack_generic_timeout: int = 600
    nf_conntrack_icmp_timeout: int = 30
    nf_conntrack_log_invalid: int = 0
    nf_conntrack_tcp_be_liberal: int = 0
    nf_conntrack_tcp_ignore_invalid_rst: int = 0
    nf_conntrack_tcp_loose: int = 1
    nf_conntrack_tcp_max_retrans: int = 3
    nf_conntrack_tcp_timeout_close: int = 10
    nf_conntrack_tcp_timeout_close_wait: int = 60
    nf_conntrack_tcp_timeout_established: int = 432000
    nf_conntrack_tcp_timeout_fin_wait: int = 120
    nf_conntrack_tcp_timeout_last_ack: int = 30
    nf_conntrack_tcp_timeout_max_retrans: int = 300
    nf_conntrack_tcp_timeout_syn_recv: int = 60
    nf_conntrack_tcp_timeout_syn_sent: int = 120
    nf_conntrack_tcp_timeout_time_wait: int = 120
    nf_conntrack_tcp_timeout_unacknowledged: int = 300
    nf_conntrack_timestamp: int = 0
    nf_conntrack_udp_timeout: int = 30
    nf_conntrack_udp_timeout_stream: int = 120


class BridgeSysctl(Section):
    """net.bridge.*, there once br_netfilter is loaded."""

    bridge_nf_call_arptables: int = 1
    bridge_nf_call_ip6tables: int = 1
    bridge_nf_call_iptables: int = 1
    bridge_nf_filter_pppoe_tagged: int = 0
    bridge_nf_filter_vlan_tagged: int = 0
    bridge_nf_pass_vlan_input_dev: int = 0


class Sysctls:
    """All sysctls of one namespace."""

    __slots__ = ("core", "ipv4", "route", "netfilter", "bridge", "conf4", "neigh4")

    def __init__(self) -> None:
        self.core = CoreSysctl()
        self.ipv4 = Ipv4Sysctl()
        self.route = RouteSysctl()
        self.netfilter = ConntrackSysctl()
        self.bridge: BridgeSysctl | None = None  # br_netfilter is not loaded
        self.conf4: dict[str, Ipv4Conf] = {"all": Ipv4Conf(), "default": Ipv4Conf()}
        self.conf4["default"].accept_source_route = 1
        self.neigh4: dict[str, NeighConf] = {"default": NeighConf()}

    def add_device(self, name: str) -> None:
        """A device appears: its conf and neigh copy what was written to `default`. Linux: inetdev_init()."""
        conf = self.conf4[name] = Ipv4Conf()
        conf.__dict__.update(self.conf4["default"].__dict__)
        neigh = self.neigh4[name] = NeighConf()
        neigh.__dict__.update(self.neigh4["default"].__dict__)

    def remove_device(self, name: str) -> None:
        """A device is gone, and its sysctls with it."""
        self.conf4.pop(name, None)
        self.neigh4.pop(name, None)

    def sections(self) -> dict[str, Section]:
        """Prefix -> section, for every sysctl there is: {"net.core": ..., "net.ipv4.conf.eth0": ...}."""
        out: dict[str, Section] = {"net.core": self.core, "net.ipv4": self.ipv4, "net.ipv4.route": self.route,
                                   "net.netfilter": self.netfilter}
        if self.bridge is not None:
            out["net.bridge"] = self.bridge
        out.update((f"net.ipv4.conf.{name}", conf) for name, conf in self.conf4.items())
        out.update((f"net.ipv4.neigh.{name}", conf) for name, conf in self.neigh4.items())
        return out
