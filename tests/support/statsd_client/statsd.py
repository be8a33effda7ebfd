"""What Airflow needs of the package ``statsd``, which is not in the test environment: each metric is one datagram."""

import socket


class StatsClient:
    def __init__(self, host="localhost", port=8125, prefix=None, ipv6=False):
        self._address, self._prefix = (host, int(port)), prefix
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def incr(self, stat, count=1, rate=1):
        self._send(f"{stat}:{count}|c")

    def decr(self, stat, count=1, rate=1):
        self.incr(stat, -count)

    def gauge(self, stat, value, rate=1, delta=False):
        self._send(f"{stat}:{value}|g")

    def timing(self, stat, delta, rate=1):
        milliseconds = delta.total_seconds() * 1000 if hasattr(delta, "total_seconds") else delta
        self._send(f"{stat}:{milliseconds:.6f}|ms")

    def timer(self, stat, rate=1):
        return _Timer()

    def __del__(self):
        self._socket.close()

    def _send(self, line):
        self._socket.sendto(f"{self._prefix}.{line}".encode("ascii"), self._address)


class UnixSocketStatsClient(StatsClient):
    """Airflow 3.4 imports it."""


class _Timer:
    def start(self):
        return self

    def stop(self, send=True):
        return None
