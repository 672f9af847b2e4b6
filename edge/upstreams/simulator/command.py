"""`penstock simulate`, also as `python -m edge.upstreams.simulator`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import controls
from .controls import Controls
from .server import serve

_new_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # not made for this platform
    _new_loop = asyncio.new_event_loop


def run_simulator(host: str = "127.0.0.1", port: int = 0, **defaults: Any) -> None:
    """Serve until SIGINT or SIGTERM. Prints `ready http://HOST:PORT` when it listens.

    defaults: controls by name, as text or plain values. Raises ValueError for one that is unknown
    or impossible, OSError when the address cannot be had.
    """
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve_until_signalled(host, port, defaults))


async def _serve_until_signalled(host: str, port: int, defaults: dict[str, Any]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    server = await serve(host, port, **defaults)
    sys.stdout.write(f"ready {server.url}\n")
    sys.stdout.flush()
    try:
        await stopped.wait()
    finally:
        await server.aclose()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: an address, and every control as an option."""
    parser = argparse.ArgumentParser(
        prog="penstock simulate",
        description="A deterministic OpenAI and Anthropic provider.",
        epilog=f"The controls, also for single requests:\n{controls.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one")
    for name in Controls.__struct_fields__:
        parser.add_argument(f"--{name.replace('_', '-')}", help="a control, see below")
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    try:
        run_simulator(host, port, **options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
