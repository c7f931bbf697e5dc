"""Usage over HTTP, in every breakdown and interval the contract names."""

import time
from itertools import pairwise
from typing import Any, get_args

import pytest
from elevenlabs.types import UsageCharactersResponseModel
from tests.conftest import RunningServer

from menura.accounts import Charge
from menura.accounts.usage import Metric


def span() -> dict[str, int]:
    now = int(time.time() * 1000)
    return {"start_unix": now - 3 * 86_400_000, "end_unix": now + 3_600_000}


@pytest.fixture(scope="module", autouse=True)
def used(shared_server: RunningServer) -> None:
    accounts = shared_server.services.accounts
    caller = shared_server.run(accounts.keys.authenticate(shared_server.api_key))
    for number in range(3):
        charge = Charge(
            caller,
            f"r{number}",
            100,
            6.0,
            "speech_to_speech",
            model_id="eleven_english_sts_v2",
            voice_id=f"v{number}",
            voice_name=f"Voice {number}",
        )
        shared_server.run(accounts.credits.charge(charge))


def ask(server: RunningServer, **query: Any) -> dict[str, Any]:
    answer = server.client.get("/v1/usage/character-stats", params=span() | query)
    assert answer.status_code == 200, answer.text
    UsageCharactersResponseModel.model_validate(answer.json())
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(
    ("interval", "breakdown"), [("hour", "voice"), ("cumulative", "none"), ("day", "user")]
)
def test_they_add_up(shared_server: RunningServer, interval: str, breakdown: str) -> None:
    body = ask(
        shared_server,
        aggregation_interval=interval,
        breakdown_type=breakdown,
        include_workspace_metrics="true",
    )
    assert sum(sum(values) for values in body["usage"].values()) == 300
    assert all(len(values) == len(body["time"]) for values in body["usage"].values())


@pytest.mark.parametrize("metric", get_args(Metric))
def test_every_metric_answers(shared_server: RunningServer, metric: str) -> None:
    assert list(ask(shared_server, metric=metric)["usage"]) == ["All"]


def test_the_bucket_size_overrides_the_interval(shared_server: RunningServer) -> None:
    body = ask(shared_server, aggregation_bucket_size=7200, aggregation_interval="month")
    steps = {later - earlier for earlier, later in pairwise(body["time"])}
    assert steps == {7_200_000}


def test_without_a_span_it_is_a_schema_violation(shared_server: RunningServer) -> None:
    answer = shared_server.client.get("/v1/usage/character-stats")
    assert answer.status_code == 422
    assert {tuple(item["loc"]) for item in answer.json()["detail"]} == {
        ("query", "start_unix"),
        ("query", "end_unix"),
    }
