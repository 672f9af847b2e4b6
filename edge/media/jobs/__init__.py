"""Video and music jobs: submitted, watched and stored by workers, whatever asked for them."""
