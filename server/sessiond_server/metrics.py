"""Metrics for Prometheus, served over HTTP when the setting `metrics_listen` names an address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sessiond_server.config import Settings, SettingsError

_TEXTS = {
    "append_queue_messages": "Messages that wait to be appended.",
    "watches": "Targets that are watched.",
    "watch_buffered_bytes": "Bytes that wait for watchers.",
    "watches_fell_behind": "How often watches fell behind since the start.",
    "watches_cut_off": "How many watches were ended since the start because they took nothing.",
    "drafts": "Drafts that are published here.",
    "settled_changes": "Changes of sessions that were settled here since the start.",
    "settle_seconds": "How long the last look for changed sessions took here.",
    "attachment_uploads": "Uploads of attachments that are under way.",
    "attachment_downloads": "Downloads of attachments that are under way.",
}


class Part(Protocol):
    """A part of the process that can be looked at."""

    def figures(self) -> Mapping[str, float]:
        """Numbers by their names, see `_TEXTS`; asked for by another thread."""


class _Figures(Collector):
    """What can be seen of the process, read when it is asked for."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        for part in self._parts:
            for name, value in part.figures().items():
                yield GaugeMetricFamily(f"sessiond_{name}", _TEXTS[name], value=value)


@contextmanager
def serve(settings: Settings, parts: Sequence[Part]) -> Iterator[str | None]:
    """Serve the metrics until the context ends; the address, `None` if there is to be none."""
    if settings.metrics_listen is None:
        yield None
        return
    host, _, port = settings.metrics_listen.rpartition(":")
    registry = CollectorRegistry()
    registry.register(_Figures(parts))
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=registry)
    except OSError as error:
        raise SettingsError(f"can't serve metrics on {settings.metrics_listen}: {error}") from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
