"""The transparency log's mathematics and text formats: tree, proofs, notes, tiles. Pure."""
