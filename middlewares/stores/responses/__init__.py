"""Kept responses."""
