"""Set-up text of each client, with this gateway's address and the chosen models."""

from collections.abc import Sequence
from functools import partial

from starlette.responses import Response

from edge.dashboard.page import EVERYONE, Page
from edge.dashboard.request import DashboardRequest
from edge.dashboard.setup_values import models_of, setup_of
from edge.dashboard.snippets.guides import guides_of, key_block
from edge.routing.catalog import Model
from edge.runtime.worker_thread import run_in_thread

_CHOOSERS = (
    ("model", "Main model", "Sonnet in Claude Code"),
    ("large", "Model for hard work", "Opus in Claude Code"),
    ("small", "Model for background work", "Haiku in Claude Code"),
)
"""Name of each field, its label and its hint."""


async def setup(request: DashboardRequest) -> Response:
    """Model choosers, and then a guide for each client."""
    models = await models_of(request)
    return await run_in_thread(partial(_render, request, models))


def _render(request: DashboardRequest, models: Sequence[Model]) -> Response:
    made = setup_of(request, models, request.query)
    return request.render(
        "setup.html",
        models=models,
        choosers=_CHOOSERS,
        chosen={name: getattr(made, name).id for name, _, _ in _CHOOSERS},
        openai_base=made.openai_url,
        anthropic_base=made.anthropic_url,
        key_block=key_block(made) if made.needs_key else None,
        guides=guides_of(made) if models else [],
    )


PAGES = (Page("/app/setup", ("GET",), EVERYONE, setup, "Set-up"),)
