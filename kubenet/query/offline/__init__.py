"""kube-proxy and a node's rules without a cluster: from files to answers.

    inputs    NODE.yaml, objects, steps, flows: files into data, mistakes named with file and line
    render    what kube-proxy feeds to iptables-restore on that node, and what iptables-save prints afterwards
    flow      where a packet would go through those rules, every throw of the dice tried
    dumps     what `ip addr`, `ip route`, `sysctl`, `conntrack -L` printed on a real node, read back
    explain   a real node's rules and state loaded into one emulated node, and a packet's way through it

Nothing here reads a clock or rolls dice: the same files give the same answer.
"""
