"""Forwarding of requests to upstreams, and of their answers to clients."""
