"""OpenAI's transcriptions: an object with the text and its times, or events with the text.

transcript   an answer, from whichever form the upstream has
formats      the six forms of an answer
events       streams
usage        what an answer was measured by
"""

from .events import TranscriptRelay, stream_of_transcript
from .formats import content_type, encoded
from .measured import Measured
from .transcript import Transcript, read_transcript

__all__ = [
    "Measured",
    "Transcript",
    "TranscriptRelay",
    "content_type",
    "encoded",
    "read_transcript",
    "stream_of_transcript",
]
