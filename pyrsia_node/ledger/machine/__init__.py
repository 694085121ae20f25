"""The deterministic state machine: what a block means. Pure: no clock, no I/O."""
