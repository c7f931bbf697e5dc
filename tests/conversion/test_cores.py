"""Streams compute in the order they asked, talkers first; a failing one gives its turn back."""

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from menura.conversion.cores import URGENT_RUN, Cores


def test_no_more_than_the_permits_compute_at_once() -> None:
    cores = Cores(2)
    inside = 0
    most = 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with cores.turn():
                with cores.suspended():
                    pass
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0001)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 2


def in_line(cores: Cores, works: list[Callable[[], None]]) -> list[threading.Thread]:
    """Start threads one after the other, each once the one before waits for its turn."""
    threads = [threading.Thread(target=work) for work in works]
    for position, thread in enumerate(threads):
        thread.start()
        while cores.waiting <= position:
            time.sleep(0.001)
    return threads


def test_a_stream_that_asks_again_stands_at_the_end() -> None:
    cores = Cores(1)
    order: list[str] = []
    cores.acquire()

    def work(name: str) -> None:
        for _ in range(3):
            with cores.turn():
                order.append(name)

    threads = in_line(cores, [partial(work, name) for name in "abc"])
    cores.release()
    for thread in threads:
        thread.join(60)
    assert order[:3] == ["a", "b", "c"]
    assert sorted(order) == sorted("abc" * 3)


def test_who_is_urgent_goes_first_and_leaves_a_turn_to_others_now_and_then() -> None:
    cores = Cores(1)
    order: list[str] = []
    cores.acquire()

    def work(name: str, urgent: bool) -> None:
        with cores.turn(urgent=urgent):
            order.append(name)

    files, talks = partial(work, "file", False), partial(work, "talk", True)
    threads = in_line(cores, [files] * 2 + [talks] * (URGENT_RUN + 2))
    cores.release()
    for thread in threads:
        thread.join(60)
    assert order == ["talk"] * URGENT_RUN + ["file"] + ["talk"] * 2 + ["file"]


def test_a_failure_gives_the_turn_back() -> None:
    cores = Cores(1)
    with pytest.raises(RuntimeError), cores.turn():
        raise RuntimeError
    with cores.turn():
        pass


def test_while_suspended_another_computes() -> None:
    cores = Cores(1)
    done = threading.Event()

    def other() -> None:
        with cores.turn():
            done.set()

    with cores.turn():
        thread = threading.Thread(target=other)
        thread.start()
        with cores.suspended():
            assert done.wait(60)
    thread.join(60)
