"""The five profiles of config/profiles, promise by promise: docs/profiles.md names each test."""
