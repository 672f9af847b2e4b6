"""Rates, slots and unsettled money of principals."""
