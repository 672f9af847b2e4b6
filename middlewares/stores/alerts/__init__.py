"""Alerts about budgets, and what they are decided by."""
