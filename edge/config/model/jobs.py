"""The table of video and music jobs."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge.config.units import Duration, RateSetting, Size

JobVendor = Literal[
    "openai-videos", "xai", "new-api", "fal", "suno", "minimax", "elevenlabs", "penstock"
]
"""Adapters in `edge.media.jobs.vendors`."""


class JobsConfig(Struct, frozen=True, kw_only=True):
    """Video and music jobs."""

    at_once: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Most jobs that one worker process submits, asks about or copies at the "
            "same time.",
            extra={"reloadable": False},
        ),
    ] = 32
    first_poll: Annotated[
        Duration,
        Meta(
            description="Shortest time between two questions to an upstream about a job. It grows "
            "to a tenth of the time that the job has run.",
            extra={"reloadable": False},
        ),
    ] = Duration(0.5)
    longest_poll: Annotated[
        Duration,
        Meta(
            description="Longest time between two questions, unless the upstream asks for more.",
            extra={"reloadable": False},
        ),
    ] = Duration(15)
    expire: Annotated[
        Duration,
        Meta(
            description="Time after which a job without a verdict of its upstream fails.",
            extra={"reloadable": False},
        ),
    ] = Duration(86400)
    unknown: Annotated[
        Duration,
        Meta(
            description="Time for which a job is looked for whose submission got no answer. It is "
            "never sent again; then it fails, and costs nothing.",
            extra={"reloadable": False},
        ),
    ] = Duration(600)
    lease: Annotated[
        Duration,
        Meta(
            description="Time after which another worker goes on with the jobs of one that died.",
            extra={"reloadable": False},
        ),
    ] = Duration(30)
    keep: Annotated[
        Duration,
        Meta(
            description="Time after its end for which a job can be asked for.",
            extra={"reloadable": False},
        ),
    ] = Duration(30 * 86400)
    keep_results: Annotated[
        Duration | None,
        Meta(
            description="Time after which the files of results expire. They stay until they are "
            "deleted unless given.",
            extra={"reloadable": False},
        ),
    ] = None
    max_result: Annotated[
        Size,
        Meta(
            description="Bytes of all results of one job at most. They are reserved in the "
            "storage of its key while it runs."
        ),
    ] = Size(256 << 20)
    polls: Annotated[
        RateSetting,
        Meta(
            description="Questions about jobs per key, which cost nothing and count against no "
            "other limit."
        ),
    ] = RateSetting(10, 1.0)
