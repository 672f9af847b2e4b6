"""One answer for one Idempotency-Key."""
