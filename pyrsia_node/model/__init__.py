"""Values of the domain: digests, purls, canonical JSON, transactions, leaves. Pure."""
