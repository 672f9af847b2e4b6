"""Speech, transcription and reading of pictures on this machine, as an upstream.

Theory of operation. The models run in one process of their own for each worker, so that neither
their memory nor their work is the worker's. It starts with the first request, keeps what it has
loaded, and ends with its worker; after a crash the next request starts another one.

    frames      what the two say to each other over a socket: requests and answers in pieces,
                many at a time, each with a number
    process     the worker's end: starts the program, sends and receives frames
    upstream    `Upstream`: a request is frames out, an answer is frames in

The program is `edge.media.local_models`. It reads media with the sandbox, so what a caller sends
reaches no model before it was decoded in a throw-away process.
"""

from .upstream import LocalMediaUpstream

__all__ = ["LocalMediaUpstream"]
