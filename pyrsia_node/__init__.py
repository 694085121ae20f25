"""The node: a core process for votes, a gateway process for bytes, and what they share.

Where things live and who may import whom: docs/ARCHITECTURE.md.
"""
