"""The table of files."""

from typing import Annotated

from msgspec import Meta, Struct

from edge.config.units import Duration, Size


class FilesConfig(Struct, frozen=True, kw_only=True):
    """Files that callers upload, or that answers leave for them."""

    max_size: Annotated[
        Size,
        Meta(
            description="Bytes of one file.",
            extra={"reloadable": False},
        ),
    ] = Size(512 << 20)
    max_upload_size: Annotated[
        Size,
        Meta(
            description="Bytes of one file that comes in parts, by /v1/uploads.",
            extra={"reloadable": False},
        ),
    ] = Size(8 << 30)
    storage: Annotated[
        Size,
        Meta(
            description="Bytes of all files of one key, or of one address where there are no "
            "keys, where its plan sets no `storage`."
        ),
    ] = Size(10 << 30)
    inline_max_size: Annotated[
        Size,
        Meta(
            description="Bytes of one file that a request names by its id or by a link, where it "
            "is sent inline."
        ),
    ] = Size(20 << 20)
    inline_max_total: Annotated[
        Size, Meta(description="Bytes of all files of one request that are sent inline.")
    ] = Size(30 << 20)
    sweep_interval: Annotated[
        Duration,
        Meta(
            description="How often expired files are removed, and what processes that died left "
            "of files. An upload that died counts against the quota for up to three times as long.",
            extra={"reloadable": False},
        ),
    ] = Duration(300)
