"""Menura: a self-hosted streaming voice changer."""

from importlib.metadata import version

__version__ = version("menura")
