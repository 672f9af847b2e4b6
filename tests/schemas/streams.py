"""A whole stream of any dialect."""

from . import chunks, framing, message_events, response_events
from .summary import Dialect, Summary


def check_stream(
    dialect: Dialect, stream: bytes, *, error: bool = False, include_usage: bool | None = None
) -> Summary:
    """Hold all events and their order against the dialect; the answer they make up.

    error: the stream has to end with an error event of the dialect, as nothing else may; the
        answer is then what came before, with stop "error". include_usage: what the caller of a
        chat or completion asked; None: a stream of one of the two kinds.

    Raises AssertionError with the event and what was expected there.
    """
    if dialect == "messages":
        return message_events.read(framing.events(stream, named=True), error=error)
    if dialect == "responses":
        return response_events.read(framing.events(stream, named=True), error=error)
    events = framing.events(stream, named=False)
    return chunks.read(
        events, error=error, include_usage=include_usage, completions=dialect == "completions"
    )
