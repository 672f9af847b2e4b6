"""What a request costs while keys, rows, models, conversations and kept answers grow."""
