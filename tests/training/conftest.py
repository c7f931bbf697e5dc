"""What several tests of the training share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's files, put together."""
    teacher = pytest.importorskip("training.teacher")
    folder: Path = teacher.joined(tmp_path_factory.mktemp("whisper"))
    return folder
