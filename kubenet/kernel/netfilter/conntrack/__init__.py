"""Connection tracking: the public names."""

from kubenet.kernel.netfilter.conntrack.core import (
    ct_state_name,
    nf_confirm,
    nf_conntrack_attach,
    nf_conntrack_in,
    nf_conntrack_init_net,
    nf_ct_netns_get,
    nf_ct_netns_put,
)
from kubenet.kernel.netfilter.conntrack.entry import DEFAULT_ZONE, NfConn, Zone, nf_ct_tmpl_alloc
from kubenet.kernel.netfilter.conntrack.expire import nf_ct_expires, nf_ct_kill
from kubenet.kernel.netfilter.conntrack.table import ConntrackTable
from kubenet.kernel.netfilter.conntrack.text import conntrack_line, ct_summary
from kubenet.kernel.netfilter.conntrack.tuple import Tuple, nf_ct_get_tuple, nf_ct_invert_tuple

__all__ = [
    "DEFAULT_ZONE", "ConntrackTable", "NfConn", "Tuple", "Zone", "conntrack_line", "ct_state_name", "ct_summary",
    "nf_confirm", "nf_conntrack_attach", "nf_conntrack_in", "nf_conntrack_init_net", "nf_ct_expires", "nf_ct_get_tuple",
    "nf_ct_invert_tuple", "nf_ct_kill", "nf_ct_netns_get", "nf_ct_netns_put", "nf_ct_tmpl_alloc",
]
