"""Sound files read with a decoder that is not Menura's."""

import io

import av
import numpy as np
from numpy.typing import NDArray


def decoded(data: bytes) -> NDArray[np.float32]:
    """Return a file's samples, mono."""
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler("flt", "mono")
        blocks = [
            out.to_ndarray().ravel()
            for frame in container.decode(audio=0)
            for out in resampler.resample(frame)
        ]
    return np.concatenate(blocks)


def rms(samples: NDArray[np.float32]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(samples))))
