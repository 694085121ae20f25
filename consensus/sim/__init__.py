"""Seeded simulation of a cluster: network, clock, faults, oracle, planted bugs."""
