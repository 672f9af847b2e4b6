"""Benchmarks. `make bench` runs `bench.compare`; bench/README.md says what each figure means."""
