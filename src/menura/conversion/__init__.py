"""The path of the audio: from the bytes of an upload to the bytes of the answer."""
