"""Benchmarks. `make bench` runs `bench.compare`; bench/README.md says what each figure means."""

import os

# Where it is set, each process of ours that is measured would compile all its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
