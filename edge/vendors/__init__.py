"""Facts about vendors: their models' capabilities, and their error bodies."""
