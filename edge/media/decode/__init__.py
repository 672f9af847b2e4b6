"""Decoding of media that callers send."""
