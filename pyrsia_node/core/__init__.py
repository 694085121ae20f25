"""Composition root of the trio process: votes, ledger, builds, who-has-what."""
