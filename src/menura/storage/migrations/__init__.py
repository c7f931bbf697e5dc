"""The schema's history, run when a database is opened."""

from pathlib import Path

from alembic.config import Config


def configuration() -> Config:
    """Return Alembic's configuration for the revisions in this package."""
    configured = Config()
    # A percent sign in the path would be read as interpolation.
    folder = str(Path(__file__).parent).replace("%", "%%")
    configured.set_main_option("script_location", folder)
    configured.set_main_option("path_separator", "os")
    return configured
