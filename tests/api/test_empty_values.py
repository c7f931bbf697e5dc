"""An empty query value counts as absent, and truth has many spellings."""

import pytest
from tests.conftest import RunningServer

PATH = "/v1/usage/character-stats?start_unix=0&end_unix=1"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/history?page_size=",
        "/v1/history?page_size=&voice_id=",
        "/v1/history?page_size=%20&voice_id=+%20",
        "/v1/history?source=&page_size=5",
        "/v1/history?search=&start_after_history_item_id=",
        PATH + "&metric=&aggregation_bucket_size=",
    ],
)
def test_an_empty_value_is_no_value(shared_server: RunningServer, path: str) -> None:
    answer = shared_server.client.get(path)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("yes", ["true", "True", "1", "yes", "YES", "on"])
def test_yes(shared_server: RunningServer, yes: str) -> None:
    query = f"&breakdown_type=user&include_workspace_metrics={yes}"
    assert shared_server.client.get(PATH + query).status_code == 200


@pytest.mark.parametrize(("no", "status"), [("false", 400), ("0", 400), ("Off", 400), ("2", 422)])
def test_no(shared_server: RunningServer, no: str, status: int) -> None:
    query = f"&breakdown_type=user&include_workspace_metrics={no}"
    assert shared_server.client.get(PATH + query).status_code == status
