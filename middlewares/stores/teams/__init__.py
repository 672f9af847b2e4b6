"""Teams of API keys, kept."""
