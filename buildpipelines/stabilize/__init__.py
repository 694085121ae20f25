"""Remove the bytes that do not matter before two builds are compared. Pure."""
