"""Validation and measurement of request bodies."""
