"""Maven's files: what the log vouches for, and what upstream repositories give, each marked."""
