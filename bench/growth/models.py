"""Cost of requests, lists of models and metrics by the number of models."""

from typing import Any

from bench import in_process
from bench.teams import ANSWER, BODY, PLAN
from middlewares.asgi import Message

from .table import Row, Table, least

SIZES = (10, 100, 1000)
_MOST = 100


def _document(count: int) -> dict[str, Any]:
    (model,) = in_process.DOCUMENT["models"]
    models = [{**model, "id": f"vendor/model-{n}", "aliases": [f"m{n}"]} for n in range(count)]
    return {
        **in_process.DOCUMENT,
        "models": models,
        "plans": [PLAN],
        "auth": {"mode": "none", "default_plan": "bench"},
        "limits": {"safety_net": "600M/min"},
    }


async def measure(sizes: tuple[int, ...] = SIZES) -> Table:
    """A request of each model in turn; the list; an unknown name; a scrape after all were used."""
    from tests.edge.scripted import Answer, Scripted, ScriptedGateway

    rows = []
    for size in sizes:
        answer = Answer([ANSWER], headers=[(b"content-type", b"application/json")])
        gateway = ScriptedGateway(Scripted(answer), document=_document(size))

        async def chat(number: int, of: Any = gateway, size: int = size) -> None:
            body = BODY.replace(b'"m1"', b'"m%d"' % (number % size))
            await in_process.ask(of, body, 1, 1)

        async def listed(number: int, of: Any = gateway) -> None:
            await in_process.get(of, "/v1/models")

        async def unknown(number: int, of: Any = gateway) -> None:
            body = BODY.replace(b'"m1"', b'"model-%dx"' % (number % 7))
            await in_process.ask(of, body, 1, 1, status=404)

        async def scraped(number: int, of: Any = gateway) -> None:
            await in_process.get(of, "/metrics")

        await chat(0)
        plain = await least(chat, 1000)
        lists = await least(listed, 20)
        wrong = await least(unknown, 20)
        scrape = await least(scraped, 3)
        series = await _series(gateway)
        rows.append(Row(size, (plain, lists, wrong, scrape, series)))
    return Table(
        "Models",
        "models",
        (
            "plain request, µs",
            "GET /v1/models, µs",
            "unknown model, µs",
            "GET /metrics, µs",
            "series in it",
        ),
        rows,
        (
            "GET /v1/models writes one object for each model, of which each is made once.",
            f"An unknown name is compared with at most {500} names.",
            "Series of metrics grow with the models that were used: those of one model by label.",
        ),
        ("GET /v1/models, µs", "unknown model, µs", "GET /metrics, µs", "series in it"),
    )


async def _series(gateway: Any) -> float:
    pieces: list[bytes] = []

    def keep(message: Message) -> None:
        pieces.append(message.get("body", b""))

    await in_process.get(gateway, "/metrics", keep)
    lines = b"".join(pieces).splitlines()
    return float(sum(not line.startswith(b"#") for line in lines if line))
