"""What the tests of the command line share."""

import pytest


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("command") / "data"
