"""Proofs of the container image: built without a registry, and run. `make image-proof`."""
