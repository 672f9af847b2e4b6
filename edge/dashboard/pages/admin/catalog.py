"""Plans and models as they are configured. They are changed in the configuration file."""

from starlette.responses import Response

from edge.config.units import plain
from edge.dashboard.own_limits import limits_text
from edge.dashboard.page import ADMINS, Page
from edge.dashboard.request import DashboardRequest
from edge.management.money import described_plan

_PRICES = {
    "input": "input",
    "output": "output",
    "cache_read": "cache read",
    "cache_write": "cache write",
    "cache_write_1h": "cache write 1 h",
    "image": "image",
    "audio_minute": "audio minute",
    "character": "character",
    "job": "job",
    "second": "second",
    "hosted_call": "hosted call",
}
_ELSE = ("id", "requests", "burst", "tokens", "concurrency", "windows")


async def plans(request: DashboardRequest) -> Response:
    """The plans."""
    rows = []
    for plan in request.parts.settings.plans:
        written = described_plan(plan)
        rest = {
            name: value
            for name, value in written.items()
            if name not in _ELSE and value not in (None, "")
        }
        windows = limits_text({"windows": written["windows"]}) if written["windows"] else []
        rows.append({"plan": written, "windows": windows, "rest": rest})
    default = request.parts.settings.auth.default_plan
    return request.render("admin/plans.html", rows=rows, default=default)


async def models(request: DashboardRequest) -> Response:
    """The models, with their targets and prices."""
    rows = []
    for model in request.parts.settings.models:
        prices = {
            label: str(plain(value))
            for name, label in _PRICES.items()
            if model.price is not None and (value := getattr(model.price, name)) is not None
        }
        no_output = (
            model.price is not None
            and "output" not in prices
            and "input" in prices
            and model.output_modalities != ("embedding",)
        )
        weights = model.weights or (None,) * len(model.targets)
        rows.append(
            {
                "model": model,
                "prices": prices,
                "missing": "no price" if model.price is None else "no output price",
                "unpriced": model.price is None or no_output,
                "targets": list(zip(model.targets, weights, strict=False)),
            }
        )
    return request.render("admin/models.html", rows=rows)


PAGES = (
    Page("/app/admin/plans", ("GET",), ADMINS, plans, "Plans"),
    Page("/app/admin/models", ("GET",), ADMINS, models, "Models"),
)
