"""Route a request: endpoint, model, and its targets in order."""
