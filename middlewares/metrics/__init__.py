"""Prometheus metrics of requests, counted once each."""
