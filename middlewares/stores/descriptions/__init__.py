"""Texts that describe media: a cache by owner."""
