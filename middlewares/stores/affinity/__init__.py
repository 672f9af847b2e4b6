"""Which target answered a conversation last."""
