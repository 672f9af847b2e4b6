"""HTTP/1.1 client for the hot path: pooled connections to one origin."""
