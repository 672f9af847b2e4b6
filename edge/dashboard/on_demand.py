"""The dashboard, whose pages are imported at the first request for one.

They and the template engine are a fifth of what a worker would import, and many gateways are asked
for no page. Several workers share those that the parent has imported (`edge.server.worker`).
"""

from functools import partial
from importlib import import_module

from edge.runtime.worker_thread import run_in_thread
from middlewares.asgi import ASGIApp, Receive, Scope, Send

from .parts import DashboardParts


class DashboardOnDemand:
    """Make the app of a generation's dashboard when the first request comes, and pass it all.

    A module that cannot be imported fails that request, and is tried again for the next.
    """

    def __init__(self, parts: DashboardParts) -> None:
        self._parts = parts
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            module = await run_in_thread(partial(import_module, f"{__package__}.app"))
            if self._app is None:  # not made by another request meanwhile
                self._app = module.DashboardApp(self._parts)
        await self._app(scope, receive, send)
