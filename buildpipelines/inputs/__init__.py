"""The inputs lock: record what a build reads, and replay exactly that."""
