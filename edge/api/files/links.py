"""GET /v1/links/{id}: a file by a signed link, without a key (`Files.link`)."""

from urllib.parse import parse_qs

from edge.media.content import send_file
from edge.media.library import Files
from edge.routing.paths import plain_path
from middlewares.asgi import Receive, Scope, Send
from middlewares.problem import Problem


class LinksApp:
    """Answers signed links. Credentials are not read: an image in a page has none."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        record = await self._files.find_linked(
            plain_path(scope["path"]).partition("/links/")[2],
            query.get("exp", [""])[-1],
            query.get("sig", [""])[-1],
        )
        if record is None:
            raise Problem("not_found", message="This link is not valid, or not any more.")
        await send_file(record, self._files.read, scope, receive, send)
