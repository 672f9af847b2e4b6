"""A receiver of alerts: keeps what comes, and answers with the status that a test sets."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class AlertReceiver:
    """A server with a thread for each connection.

    status: of its answers. hang: while set, it answers nothing until `release` is set.
    """

    def __init__(self) -> None:
        self.status = 204
        self.hang = False
        self.release = threading.Event()
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                if receiver.hang:
                    receiver.release.wait()
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?token=canary-7f"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, also what hangs."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What came, oldest first."""
        return [json.loads(body) for _, body in self.got]

    def shares(self, **wanted: Any) -> list[int]:
        """The shares of what came about windows, in their order; only where `data` is so."""
        return [
            event["data"]["share"]
            for event in self.events
            if event["type"] == "budget.threshold"
            and all(event["data"][name] == value for name, value in wanted.items())
        ]
