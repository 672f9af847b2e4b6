"""A sandbox process that does what hostile media could make a decoder do.

The media are its Python code, which runs under the limits of a sandbox process.
"""

import os
import sys

from edge.media.decode.child import limit

if __name__ == "__main__":
    limit()
    code = os.pread(0, 10_000, 0).decode()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    exec(code)
