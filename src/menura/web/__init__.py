"""The page at `/`: plain ES modules, served as they are, without a key."""
