"""The iptables rule engine: tables of chains of rules per namespace, and the tools that read and print them.

    iptables_command(net, family, argv)              the tool: exit code, output, errors
    iptables_restore(net, family, text, noflush)     many rules at once, table by table
    iptables_save(net, family, tables, counters)     the rules as text
    xt_table(net, family, name)                      the table; first use registers its hooks

What lies where: spec.py the records; parse.py, words.py, options.py the reading; matches/ and targets/ the extensions;
draft.py changes and commits; table.py tables and hooks; compile.py what runs for each packet; evaluate.py the walk that
explains itself, and the plain interpreter that is the oracle.
Families: iptables and ip6tables are one engine over a table per family; what only one of them has is registered for it alone.
"""

from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.restore import iptables_restore, iptables_restore_command
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.kernel.netfilter.xtables.table import Table, ipt_do_table, xt_table

__all__ = [
    "Table", "XtablesError", "ipt_do_table", "iptables_command", "iptables_restore", "iptables_restore_command", "iptables_save",
    "xt_table",
]
