"""Random bytes for every decoder and encoder of the dialects.

    targets    what is fed, and what must hold whatever it is
    seeds      what mutation begins with: the golden cases
    mutate     streams and JSON changed where it matters
    events     bytes as a valid sequence of neutral events
    kept       inputs that broke a target once: TARGET/NAME
    __main__   `python -m tests.fuzz --seconds 1200 [--target NAME]`

With `atheris` installed (`pip install atheris`) mutation is led by the coverage of the code;
without it, it is blind, and still finds much. An input that broke something is written to a
file, and `python -m tests.fuzz --target NAME --input FILE` does it again.
"""
