"""The refusal of ids of files where no files can be read."""

from edge.dialects.passthrough import Fields
from edge.media.part import FileReference
from edge.media.parts import find_media
from edge.media.resolve import no_such_file


def refuse_files(fields: Fields) -> None:
    """Raise Problem for a part that names a file by its id."""
    for part in find_media(fields):
        if isinstance(part.source, FileReference):
            raise no_such_file(part.source.id, part.param)
