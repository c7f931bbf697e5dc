"""The way of the audio: one stream from uploaded bytes to encoded bytes."""
