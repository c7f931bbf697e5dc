"""A live stream and who listens to it: nothing is lost, and nothing grows without end."""

import asyncio

import numpy as np

from menura.accounts import Principal
from menura.audio.formats import find_format
from menura.audio.live import open_live_decoder
from menura.conversion.lanes import Lanes
from menura.conversion.passthrough import PassThrough
from menura.engine.interface import SAMPLE_RATE
from menura.history import NewItem
from menura.live.chain import LiveRequest
from menura.live.session import KEPT_BYTES, LiveSession
from menura.live.worker import PIECE_SECONDS
from menura.settings import Tier

SECOND = 2 * SAMPLE_RATE
LIMIT = 5.0
MOST = round((2 * LIMIT + 1 + PIECE_SECONDS) * SECOND)
"""Bytes beyond the listener: as much as waits to be heard waits to be computed, and a message and
a piece are under way."""


def session(output_format="pcm_24000"):
    engine = PassThrough()
    request = LiveRequest(
        engine=engine,
        voice=engine.measure([np.zeros(SAMPLE_RATE, np.float32)]).voice,
        output_format=find_format(output_format),
        decoder=open_live_decoder("s16le", SAMPLE_RATE),
        drop_late=None,
    )
    tier = Tier(concurrency=1)
    principal = Principal("a", "w", "k", "", "free", tier, None, None, None, False)
    item = NewItem("a", "r", "v", "V", "premade", "m", "audio/pcm", output_format, None)
    return LiveSession(principal, request, item, Lanes(2, processes=1).seat(engine), None)


def test_a_listener_far_behind_slows_the_sender_and_loses_nothing():
    rng = np.random.default_rng(1)
    seconds = KEPT_BYTES // SECOND + 30
    data = rng.integers(-9000, 9000, seconds * SAMPLE_RATE).astype("<i2").tobytes()

    async def talk(live):
        for at in range(0, len(data), SECOND):
            live.feed(data[at : at + SECOND])
            await live.drained(LIMIT)
        live.worker.end()

    async def converse():
        live = session()
        token = live.attach()
        talking = asyncio.create_task(talk(live))
        done, _ = await asyncio.wait({talking}, timeout=3)
        assert not done
        assert live.produced <= MOST
        heard = b""
        while True:
            offset, piece = await live.output(token, len(heard))
            if not piece:
                break
            heard += piece
            assert offset == len(heard)
            assert live.produced - len(heard) <= MOST
        await talking
        assert heard == data
        # What was given is kept for who comes back, up to a limit.
        assert KEPT_BYTES <= live.produced - live.oldest <= KEPT_BYTES + MOST
        live.worker.join()

    asyncio.run(converse())


def test_a_mark_lies_exactly_behind_the_output_of_the_input_before_it():
    frame = bytes(2 * round(PIECE_SECONDS * SAMPLE_RATE))

    async def marked():
        # At another rate a little is always held back.
        live = session("pcm_48000")
        token = live.attach()
        for count in range(1, 40):
            live.feed(frame)
            live.mark(str(count))
        live.worker.end()
        await live.computed
        offset = 0
        while (names := live.passed(offset)) or offset < live.produced:
            for name in names:
                assert offset == int(name) * 2 * len(frame)
            offset, _ = await live.output(token, offset)
        live.worker.join()

    asyncio.run(marked())
