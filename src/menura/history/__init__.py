"""History: what was converted, and its audio."""

from menura.history.service import (
    Direction,
    History,
    HistoryQuery,
    NewItem,
    Page,
    Recording,
    unknown_item,
)

__all__ = ["Direction", "History", "HistoryQuery", "NewItem", "Page", "Recording", "unknown_item"]
