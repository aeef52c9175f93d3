"""Ports for servers of tests' own."""

import random
import socket

_APART = range(15_000, 32_000)  # below those that systems give to whoever asks for any


def quiet_port() -> int:
    """A loopback port that is free, and stays so until it is used: nobody else is given it by chance."""
    for port in random.SystemRandom().sample(_APART, 1000):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"a thousand ports from {_APART.start} to {_APART.stop} are all in use")
