"""BFT ordering of opaque payloads: the Simplex-H core, without I/O, clock or randomness.

The protocol is written down in ``docs/design/consensus.md``; code cites its rules as ``# R5``.
The package knows nothing of packages, logs or networks: a block body is bytes plus a digest.
"""
