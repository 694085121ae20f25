"""Read hostile archives: strict, bounded, and without ever touching a file system. Pure."""
