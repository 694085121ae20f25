"""Messages of the build link: what a node asks a build worker, and what it answers. Pure."""
