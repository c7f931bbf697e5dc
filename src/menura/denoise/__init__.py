"""Noise removal as a streaming stage."""
