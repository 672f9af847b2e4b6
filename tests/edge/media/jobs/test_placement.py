"""Which models make jobs."""

from typing import Any

import pytest

from edge.config.load import parse
from edge.media.jobs.placement import Placement
from edge.media.jobs.work import Work


@pytest.mark.parametrize(
    ("price", "makes"),
    [
        (None, True),
        ({"job": "0.01"}, True),
        ({"second": "0.10"}, True),
        ({"second": "0"}, True),
        ({"job": "0.01", "upstream_cost": "1.0"}, True),
        ({"input": "1.00", "output": "2.00"}, False),
        ({"image": "0.04"}, False),
    ],
)
def test_places_of_a_priced_model_need_a_price_of_jobs(price: Any, makes: bool) -> None:
    model: dict[str, Any] = {"id": "m", "targets": ["up/far"]}
    if price is not None:
        model["price"] = price
    settings = parse(
        {
            "upstreams": [
                {"name": "up", "dialect": "openai", "base_url": "https://api.example.com/v1"}
            ],
            "models": [model],
        }
    )
    places = Placement(settings).places("m", [("up", "far")], Work(kind="video", prompt="x"))
    assert bool(places) is makes
