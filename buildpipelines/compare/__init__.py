"""Say at which level two artifacts are equal, and explain what differs. Pure."""
