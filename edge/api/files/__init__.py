"""/v1/files, /v1/uploads and links: files of callers, in the shapes of both vendors."""

from .app import FilesApp
from .links import LinksApp
from .uploads import UploadsApp

__all__ = ["FilesApp", "LinksApp", "UploadsApp"]
