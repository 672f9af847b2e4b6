"""Sessions of people who signed in to the dashboard."""
