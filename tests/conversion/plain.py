"""Conversions that leave the voice as it is, for tests of the chain around an engine."""

from menura.audio.formats import OutputFormat, find_format
from menura.conversion.passthrough import PassThrough, SameVoice
from menura.conversion.request import ConversionRequest, SourcePlan

ENGINE = PassThrough()


def output(name: str) -> OutputFormat:
    """Return an output format by name."""
    found = find_format(name)
    assert found is not None
    return found


def plain_request(name: str = "pcm_24000", **plan: object) -> ConversionRequest:
    """Return a request that leaves the voice as it is."""
    return ConversionRequest(SourcePlan(ENGINE, **plan), SameVoice(), output(name))  # type: ignore[arg-type]
