"""Health of targets and their circuit breakers."""
