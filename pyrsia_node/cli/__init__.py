"""The `pyrsia-node` command: init, run, join, network, doctor, fsck, reindex, devnet."""
