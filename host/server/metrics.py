"""Counters of the server in Prometheus' text format, and the energy meter among them."""

from __future__ import annotations

import logging
import threading
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from tritape.host.power.sensor import Sensor

_INTERVAL_S = 0.02  # between samples of the sensor
_log = logging.getLogger(__name__)


class Metrics:
    """What `/metrics` shows: tokens by kind, requests by outcome, the queue, devices, slots, CRC errors, faults, joules."""

    def __init__(self, slots: int, sensor: Sensor | None = None) -> None:
        self._registry = registry = CollectorRegistry()
        tokens = Counter("tritape_tokens", "Tokens that the device ran for requests.", ["kind"], registry=registry)
        self.prompt, self.completion = tokens.labels("prompt"), tokens.labels("completion")
        self._requests = Counter(
            "tritape_requests",
            "Requests by outcome: ok; refused (4xx); cancelled by the client; failed (5xx).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("ok", "refused", "cancelled", "failed"):
            self._requests.labels(outcome)
        self.queue = Gauge("tritape_queue_length", "Requests that wait for the device.", registry=registry)
        self.busy = Gauge("tritape_slots_busy", "Slots of the device that work for a request.", registry=registry)
        Gauge("tritape_slots", "Slots of the device.", registry=registry).set(slots)
        self.devices = Gauge("tritape_devices", "Devices that are not lost.", registry=registry)
        self.crc_errors = Counter(
            "tritape_crc_errors", "Sections of the tape that came with a wrong CRC-32.", registry=registry
        )
        self.faults = Counter("tritape_faults", "Works that the device refused or did not end.", registry=registry)
        self.meter = None if sensor is None else EnergyMeter(sensor)
        if self.meter is not None:
            registry.register(self.meter)

    def request(self, outcome: str) -> None:
        """Count the end of a request."""
        self._requests.labels(outcome).inc()

    def text(self) -> bytes:
        """All of it, version 0.0.4 of the format."""
        return generate_latest(self._registry)


class EnergyMeter(Collector):
    """The joules that a sensor saw since `start`, summed by a thread of its own; constant memory.

    When the sensor cannot be read any more there is no sum any longer, for it would be wrong; why is in the log.
    """

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self.joules = 0.0
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"power {sensor.name}", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def close(self) -> None:
        """End, and give the sensor back."""
        self._stop.set()
        self._thread.join(5)
        self._sensor.close()

    def collect(self) -> list[CounterMetricFamily]:
        """For the registry."""
        if self._lost:
            return []
        return [CounterMetricFamily("tritape_joules", f"Energy: {self._sensor.scope}.", value=self.joules)]

    def _run(self) -> None:
        last: tuple[float, float] | None = None
        name = self._sensor.name
        while not self._stop.wait(_INTERVAL_S):
            try:
                now, value = time.monotonic(), self._sensor.read()
            except OSError as error:
                self._lost = True
                _log.warning("%s: sensor must stay readable, not vanish (%s); check it and start again", name, error)
                return
            if last is not None:
                then, before = last
                self.joules += value - before if self._sensor.unit == "J" else (now - then) * (value + before) / 2
            last = now, value
