"""Voices: the premade set, clones, their settings and samples."""
