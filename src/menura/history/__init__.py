"""History: what was converted, and its audio."""

from menura.history.service import (
    Direction,
    History,
    NewItem,
    Page,
    Query,
    Recording,
    unknown_item,
)

__all__ = ["Direction", "History", "NewItem", "Page", "Query", "Recording", "unknown_item"]
