"""Plans and limits, token estimates, surcharges and usage reports."""
