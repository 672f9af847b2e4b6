"""Gateways with and without metrics and traces differ in nothing else."""

import asyncio

import pytest

from bench import observability
from bench.observability import RATIOS, added, ask, collector, subject, with_share
from edge.chain import LAYERS


def test_layers_that_are_taken_out_are_in_the_chain() -> None:
    assert {layer.name for layer in LAYERS} >= observability.TAKEN_OUT


@pytest.mark.parametrize("name", RATIOS)
def test_gateway_counts_and_traces_what_it_is_named_after(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observability, "BATCH", 4)
    with collector() as endpoint:
        plain, streaming = subject(name, endpoint), subject(name, endpoint, 5)
        asyncio.run(ask(plain, 4, 2, stream=False))
        asyncio.run(ask(streaming, 2, 2, stream=True))
    counted = plain.gateway.sample(
        "penstock_requests_total",
        endpoint="chat.completions",
        model="m1",
        status="200",
        outcome="completed",
    )
    assert counted == (None if name == "without" else 4)
    assert plain.exported.spans == (8 if name == "all" else 0)
    assert streaming.exported.spans == (4 if name == "all" else 0)


def test_traces_of_one_percent_cost_a_hundredth_of_the_way_to_all() -> None:
    costs = {"without": [90.0, 91.0], "metrics": [95.0, 96.0], "none": [100.0, 101.0]}
    shared = with_share({**costs, "all": [300.0, 301.0]})
    assert shared["1 %"] == [102.0, 103.0]
    assert added(shared, "1 %") == 12.0
