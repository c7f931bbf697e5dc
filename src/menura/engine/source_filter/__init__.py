"""Zero-shot voice conversion by signal processing: a source-filter model of speech.

samples -> pitch, envelope, periodicity, statistics -> mapping -> pulses and noise -> samples
"""

from menura.engine.source_filter.engine import SourceFilterEngine

__all__ = ["SourceFilterEngine"]
