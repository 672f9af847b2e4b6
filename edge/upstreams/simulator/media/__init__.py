"""Images, speech, transcription, files, video and music of the simulator, with small real media.

routes      paths and methods
fields      a request as JSON or as a form
images, speech, transcription, files, video, music    the endpoints
pictures, sounds, films    the media themselves
sight       what the media parts of a request hold
"""

from .routes import find_media, is_stateful
from .sight import check_files, describe_media

__all__ = ["check_files", "describe_media", "find_media", "is_stateful"]
