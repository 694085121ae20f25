"""Drives the consensus core: timers, write-ahead log, transport, catch-up."""
