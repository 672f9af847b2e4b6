"""The OpenAI Responses dialect."""

from edge.dialects.codec import ClientSide, UpstreamSide
from middlewares import sse

from .read_answer import ResponsesReader
from .read_answer import read as read_answer
from .read_request import read
from .write_answer import ResponsesWriter
from .write_request import write

CLIENT = ClientSide(read=read, writer=ResponsesWriter, ping=sse.comment("keep-alive"))
UPSTREAM = UpstreamSide(write=write, reader=ResponsesReader, read=read_answer)
