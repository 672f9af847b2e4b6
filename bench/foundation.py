"""`penstock` without the layers of limits and money, so that one can see what those cost.

    python -P bench/foundation.py serve --config FILE

All else is as it is: the same server, the same chain around the place where they stood. What they
are made of is opened too, and has nothing to do.
"""

import os

from edge.cli import main

TAKEN_OUT = frozenset(("address_limit", "rate_limit", "idempotency", "budget"))


def take_out() -> None:
    """Shorten the chain of this process. Raises LookupError when it has no such layers."""
    from edge import app, chain  # prometheus_client must see the environment that `serve` makes

    missing = TAKEN_OUT - {layer.name for layer in chain.LAYERS}
    if missing:
        raise LookupError(f"the chain has no layers {', '.join(sorted(missing))}")
    for part in ("OUTER_LAYERS", "INNER_LAYERS", "SUBREQUEST_LAYERS"):
        left = tuple(layer for layer in getattr(chain, part) if layer.name not in TAKEN_OUT)
        setattr(app, part, left)  # where the application takes them from


if __name__ == "__main__":
    os.register_at_fork(after_in_child=take_out)  # workers are forks
    main()
