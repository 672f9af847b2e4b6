"""Rows of stored files and their quota."""
