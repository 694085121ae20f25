"""Build requests, own attestations, and the link to the build worker."""
