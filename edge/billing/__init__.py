"""What a request may use and what it costs: plans, estimates, surcharges, usage reports."""
