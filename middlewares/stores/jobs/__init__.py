"""Durable jobs: long work at an upstream, kept in SQL until it has one final state and one bill."""
