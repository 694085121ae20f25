"""The `pyrsia` command: talks to a node, and trusts only what it can verify itself."""
