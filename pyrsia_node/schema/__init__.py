"""Messages of the control link, the build link and the HTTP API. Pure."""
