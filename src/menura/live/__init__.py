"""Live: speech converted while it is spoken, in sessions that survive a dropped connection."""
