"""Starts a whole network of node processes on loopback, for trying out and for tests."""
