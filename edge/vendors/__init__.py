"""Facts about vendors: what their models take, and how their servers say errors."""
