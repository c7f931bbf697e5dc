"""The scripts that train the engine's networks; docs/training.md has their order."""

# It asks for what training needs too: torch, and one thread for every library.
import evaluation  # noqa: F401
