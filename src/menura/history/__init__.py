"""History: what was converted, and its audio."""

from menura.history.service import Direction, History, NewItem, Page, Query, Recording

__all__ = ["Direction", "History", "NewItem", "Page", "Query", "Recording"]
