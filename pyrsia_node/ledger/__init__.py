"""The replicated state machine, its atomic application, and what is derived from it."""
