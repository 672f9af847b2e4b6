"""Media: forms, stored files, links and decoding."""
