"""Video and music jobs: created, asked for, cancelled and downloaded."""
