"""Endpoints that are answered here, not forwarded."""
