"""What several tests of the API need."""

from collections.abc import Iterator

import pytest

from menura.conversion.passthrough import PassThrough
from menura.engine import registry

from .wire import PLAIN


@pytest.fixture(scope="module")
def plain_model() -> Iterator[None]:
    """Make the chain around the engine available under the model id `PLAIN`."""
    registry._BUILDERS[PLAIN] = PassThrough
    yield
    del registry._BUILDERS[PLAIN]
