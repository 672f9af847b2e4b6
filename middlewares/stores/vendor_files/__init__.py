"""Copies of files at vendors, by the account they are in."""
