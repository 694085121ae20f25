"""Run other people's build scripts where they can do no harm."""
