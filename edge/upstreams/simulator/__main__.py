"""`python -m edge.upstreams.simulator`."""

from .command import main

if __name__ == "__main__":
    main()
