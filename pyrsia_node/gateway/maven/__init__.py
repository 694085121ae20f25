"""The Maven repository of a node, ``/maven2``."""
