"""Derives again, from another node's published files alone, everything that the log claims."""
