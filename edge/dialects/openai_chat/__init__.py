"""The OpenAI Chat Completions dialect."""

from edge.dialects.codec import ClientSide, UpstreamSide
from middlewares import sse

from . import read_answer, read_request, write_request
from .write_answer import ChatWriter

CLIENT = ClientSide(
    read=read_request.read, writer=ChatWriter, ping=sse.comment("keep-alive"), turns="messages"
)
UPSTREAM = UpstreamSide(
    write=write_request.write,
    reader=read_answer.ChatReader,
    read=read_answer.read,
    write_turns=write_request.write_turns,
    write_after=write_request.write,
)
