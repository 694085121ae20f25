"""HTTPS range client and the data listener between nodes."""
