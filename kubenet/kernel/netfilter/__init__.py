"""Hooks, connection tracking, NAT and the rule engines."""
