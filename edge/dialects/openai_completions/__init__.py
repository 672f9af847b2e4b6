"""The dialect of OpenAI's older Completions, for callers only: no upstream speaks it here."""

from edge.dialects.codec import ClientSide
from middlewares import sse

from .read_request import read
from .write_answer import CompletionWriter

CLIENT = ClientSide(read=read, writer=CompletionWriter, ping=sse.comment("keep-alive"))
