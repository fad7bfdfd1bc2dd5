"""A circuit breaker: a server that keeps failing is left alone for a while."""

import time
from collections.abc import Callable


class CircuitBreaker:
    """Counts failures in a row; too many open the circuit, and nobody asks until it has cooled.

    Then one request is let through: its success closes the circuit, its failure keeps it open for
    as long again. Not for several threads.

    :param failures: in a row, that open the circuit.
    :param cooldown: seconds until the next request is let through.
    :param clock: tells the time in seconds.
    """

    def __init__(
        self, failures: int, cooldown: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures = failures
        self.cooldown = cooldown
        self._clock = clock
        self._in_a_row = 0
        self._next_request = float("-inf")

    def allows(self) -> bool:
        """Whether a request may be sent; while the circuit is open, each yes is one probe."""
        if self._in_a_row < self.failures:
            return True
        if self._clock() < self._next_request:
            return False
        self._next_request = self._clock() + self.cooldown
        return True

    def succeeded(self) -> None:
        """Tell of a request that was answered."""
        self._in_a_row = 0

    def failed(self) -> None:
        """Tell of a request that was not."""
        self._in_a_row += 1
        self._next_request = self._clock() + self.cooldown
