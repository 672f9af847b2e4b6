"""Checks and measures of request bodies."""
