"""Queries of the dashboard with everything chosen, as Grafana sends them."""

VALUES = {
    "$namespace": ".*",
    "$job": ".*",
    "$model": ".*",
    "$__rate_interval": "1m",
    "$__interval": "1m",
}


def chosen(expression: str) -> str:
    """An expression without variables."""
    for name, value in VALUES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression
