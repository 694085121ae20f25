"""Rebuild packages from source in sandboxes, and compare what came out. Imports nothing of ours."""
