"""LevelDB, blob store and keys: the only importer of plyvel."""
