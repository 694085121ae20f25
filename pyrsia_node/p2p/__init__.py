"""The libp2p host, hardened. The only package that imports libp2p."""
