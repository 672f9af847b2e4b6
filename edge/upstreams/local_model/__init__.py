"""A real language model on this machine, for demos and tests."""
