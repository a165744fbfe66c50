"""What a monitor can ask: Prometheus metrics, counted when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ..core.state import Run
from ..service import Broker


class Clients(Protocol):
    """Whoever is connected."""

    def __len__(self) -> int: ...

    @property
    def subscriptions(self) -> int: ...


class _BrokerCollector(Collector):
    def __init__(self, broker: Broker, clients: Clients) -> None:
        self._broker, self._clients = broker, clients

    def collect(self) -> Iterable[Metric]:
        journal = self._broker.journal
        alive = Counter(record.run for record in journal.executions_alive())
        executions = GaugeMetricFamily(
            "jupyter_broker_executions", "Executions that are not over, by state", labels=["state"]
        )
        for state in (Run.QUEUED, Run.RUNNING, Run.AWAITING_INPUT):
            executions.add_metric([state], alive[state])
        yield executions
        for name, help, value in (
            ("sessions", "Open sessions", len(self._broker.runners)),
            ("connections", "Open WebSockets", len(self._clients)),
            ("subscriptions", "Subscriptions to events", self._clients.subscriptions),
            ("journal_seq", "The last event's place in the journal", journal.seq),
            ("journal_pending_events", "Events that are not on disk yet", journal.pending),
            ("journal_stalled", "1 while the journal cannot be written", int(journal.stalled is not None)),
        ):
            yield GaugeMetricFamily(f"jupyter_broker_{name}", help, value=value)


def registry(broker: Broker, clients: Clients) -> CollectorRegistry:
    """The metrics of one broker and its process."""
    metrics = CollectorRegistry()
    metrics.register(_BrokerCollector(broker, clients))
    ProcessCollector(registry=metrics)
    return metrics
