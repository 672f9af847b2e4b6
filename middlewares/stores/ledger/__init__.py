"""The ledger: one row for every request that was served."""
