"""From names to bytes: resolve, verify, fetch pieces, schedule, upstreams."""
