"""Rate and concurrency limits per principal."""
