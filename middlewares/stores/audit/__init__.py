"""The audit of changes that operators make."""
