"""Node-local repositories: pushes, tags and their history, rights, garbage collection.

Knows ports, never an implementation; HTTP is ``gateway``'s. What the network vouches for is
``artifacts``' business: here are only names that nobody but this node answers for.
"""
