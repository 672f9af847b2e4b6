"""Affinity records: which target answered a conversation last."""
