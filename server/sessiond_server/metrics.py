"""Metrics for Prometheus, served over HTTP when the setting `metrics_listen` names an address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sessiond_server.config import Settings, SettingsError
from sessiond_server.rpc.attachment_service import AttachmentServicer
from sessiond_server.rpc.feed_service import FeedServicer
from sessiond_server.store.batcher import Batcher

_TEXTS = {
    "append_queue_messages": "Messages that wait to be appended.",
    "watches": "Targets that are watched.",
    "watch_buffered_bytes": "Bytes that wait for watchers.",
    "watches_fell_behind": "How often watches fell behind since the start.",
    "watches_cut_off": "How many watches were ended since the start because they took nothing.",
    "drafts": "Drafts that are published here.",
    "attachment_uploads": "Uploads of attachments that are under way.",
    "attachment_downloads": "Downloads of attachments that are under way.",
}


class _Figures(Collector):
    """What can be seen of the process, read when it is asked for."""

    def __init__(
        self, batcher: Batcher, feeds: FeedServicer, attachments: AttachmentServicer
    ) -> None:
        self._batcher = batcher
        self._feeds = feeds
        self._attachments = attachments

    def collect(self) -> Iterator[Metric]:
        figures = {
            "append_queue_messages": self._batcher.waiting_messages,
            **self._feeds.figures(),
            **self._attachments.figures(),
        }
        for name, value in figures.items():
            yield GaugeMetricFamily(f"sessiond_{name}", _TEXTS[name], value=value)


@contextmanager
def serve(
    settings: Settings, batcher: Batcher, feeds: FeedServicer, attachments: AttachmentServicer
) -> Iterator[str | None]:
    """Serve the metrics until the context ends; the address, `None` if there is to be none."""
    if settings.metrics_listen is None:
        yield None
        return
    host, _, port = settings.metrics_listen.rpartition(":")
    registry = CollectorRegistry()
    registry.register(_Figures(batcher, feeds, attachments))
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
