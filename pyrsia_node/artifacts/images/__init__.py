"""Images of the log and of upstream registries: names to manifests to blobs. Knows no HTTP server.

What is pushed to this node is ``registry``'s business; which of the two answers for a name is
decided by ``gateway.images``. Design: docs/design/registry.md.
"""
