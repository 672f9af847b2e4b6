"""Answers kept for idempotent requests."""
