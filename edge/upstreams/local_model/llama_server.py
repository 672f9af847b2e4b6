"""Run a llama.cpp server that ends with its parent process.

Usage: `python -m edge.upstreams.local_model.llama_server WEIGHTS ALIAS`. Its API key is the first
line of standard input. It prints its base URL as one line when it is ready, and serves until
standard input is closed, which the system does when the parent is killed. It ignores SIGINT and
SIGTERM, which the parent handles. Needs the extra `local`.
"""

import os
import signal
import sys

from xllamacpp import CommonParams, Server

_ERRORS_ONLY = 1
_LONGEST = 512
"""Tokens of an answer to a request without a bound of its own: so small a model may never end."""


def main(weights: str, alias: str) -> None:
    """Serve the GGUF file `weights` under the name `alias` on a free loopback port.

    Raises RuntimeError when llama.cpp cannot load it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    params = CommonParams()
    params.api_keys = [sys.stdin.readline().strip()]
    params.model.path = weights
    params.model_alias = {alias}
    params.n_predict = _LONGEST
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.use_jinja = True  # required for requests with tools
    params.ui = False
    params.verbosity = _ERRORS_ONLY
    # Its threads wait for each other by spinning, so they stall when all cores are busy.
    threads = max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # the server's own shutdown waits for running answers


if __name__ == "__main__":
    main(*sys.argv[1:])
