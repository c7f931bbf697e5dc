"""What the tests of the command line share."""

import pytest

from .command import end_warm


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("command") / "data"


@pytest.fixture(scope="module", autouse=True)
def _no_command_outlives_its_tests():
    yield
    end_warm()
