"""``/v2``: the OCI distribution interface over logged images, own ones, and upstreams."""
