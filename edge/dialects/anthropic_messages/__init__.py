"""The Anthropic Messages dialect."""

from edge.dialects.codec import ClientSide, UpstreamSide

from . import read_answer, read_request, write_request
from .write_answer import PING, MessagesWriter

CLIENT = ClientSide(read=read_request.read, writer=MessagesWriter, ping=PING, turns="messages")
read_counted = read_request.read_counted

UPSTREAM = UpstreamSide(
    write=write_request.write,
    reader=read_answer.MessagesReader,
    read=read_answer.read,
    write_turns=write_request.write_turns,
    write_after=write_request.write,
)
