"""`python -m edge.upstreams.local_model.llama_server WEIGHTS ALIAS`: a llama.cpp server that ends
with its parent.

Its API key is the first line of standard input; it prints its base URL as one line when it answers.
It then serves until standard input is closed, which the system does for a parent that was killed.
Signals that a terminal sends to all are left to the parent. Needs the extra `local`.
"""

import os
import signal
import sys

from xllamacpp import CommonParams, Server

_ERRORS_ONLY = 1


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
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.use_jinja = True  # or requests with tools are refused
    params.ui = False
    params.verbosity = _ERRORS_ONLY
    # Its threads wait for one another by spinning: with all cores taken they stand still.
    threads = max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # at once: the server's own end waits for the answers it is giving


if __name__ == "__main__":
    main(*sys.argv[1:])
