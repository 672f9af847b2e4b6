"""OpenAI Chat Completions."""

from edge.dialects.sides import ClientSide
from middlewares import sse

from .read_request import read
from .write_answer import ChatWriter

CLIENT = ClientSide(read=read, writer=ChatWriter, ping=sse.comment("keep-alive"))
