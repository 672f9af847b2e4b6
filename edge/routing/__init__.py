"""Which endpoint, which model, which targets, in which order."""
