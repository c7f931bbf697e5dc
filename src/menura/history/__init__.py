"""History: what was converted, and its audio."""
