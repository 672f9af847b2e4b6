"""Multipart forms: read within bounds, kept where they can be read again, and encoded again.

reading   the events of a form while it arrives (`stream_form`), or the whole of it with its
          files on disk (`read_form`)
form      its parts
spool     the bytes of one file
body      a form as the body of an upstream request
"""

from .body import FormBody
from .form import Form, FormField, FormFile, Part, form_fields, plain_name
from .reading import FileEnd, FileStart, FormBounds, FormEvent, read_form, stream_form
from .spool import Spool

__all__ = [
    "FileEnd",
    "FileStart",
    "Form",
    "FormBody",
    "FormBounds",
    "FormEvent",
    "FormField",
    "FormFile",
    "Part",
    "Spool",
    "form_fields",
    "plain_name",
    "read_form",
    "stream_form",
]
