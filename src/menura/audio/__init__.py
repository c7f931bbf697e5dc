"""Bytes to samples and back: decoding, resampling, encoding."""
