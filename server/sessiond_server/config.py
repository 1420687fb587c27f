"""The settings of the service: one name each in environment (`SESSIOND_…`), file and flags."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sessiond_server.sessions.executables import EXTENSIONS

DEFAULT_LISTEN = "127.0.0.1:7443"


class SettingsError(Exception):
    """The settings can't be used; the text says which and why."""


class Settings(BaseSettings):
    """Settings of `sessiond serve`. A flag goes before the environment, that before the file."""

    model_config = SettingsConfigDict(
        env_prefix="SESSIOND_",
        extra="forbid",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )

    listen: Annotated[list[str], NoDecode] = Field(
        default=[DEFAULT_LISTEN],
        description="Addresses to serve on, separated by commas: HOST:PORT (port 0 is any free one),"
        " [IPV6]:PORT, or unix:/PATH.",
    )
    unix_socket_mode: str | None = Field(
        default=None,
        description="The mode of unix sockets, in octal; 0660 if left out. Only with a unix address.",
    )
    auth: Literal["off", "keys"] = Field(
        default="off",
        description="Who may call: everybody who can connect, or who sends an API key (made by"
        " sessiond keys create).",
    )
    dsn: str | None = Field(
        default=None,
        description="The Postgres to keep sessions in, as postgresql://USER:PASSWORD@HOST/DATABASE."
        " If left out, the service brings its own along.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Where the service's own Postgres keeps its data; /var/lib/sessiond for root,"
        " ~/.local/share/sessiond for others if left out. Not together with the DSN.",
    )
    connections: int = Field(
        default=10, ge=1, le=500, description="Connections for everything but plain appends."
    )
    append_lanes: int = Field(
        default=1,
        ge=1,
        le=32,
        description="Connections for appends; sessions are spread over them.",
    )
    append_queue_messages: int = Field(
        default=20_000,
        ge=1000,
        le=10_000_000,
        description="Messages that may wait to be appended before appends are refused.",
    )
    read_queue: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="Calls that may wait for a connection before calls are refused.",
    )
    lock_timeout: float = Field(
        default=10,
        ge=0.1,
        le=600,
        description="Seconds that a call waits for a session that another call holds.",
    )
    max_spawn_depth: int = Field(
        default=3, ge=0, le=100, description="How deep sub-agents' sessions may stand."
    )
    offload_age_days: float = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days after which messages are offloaded; 0 is never.",
    )
    offload_keep_messages: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="How many of a session's newest messages aren't offloaded, when there are many more;"
        " 0 is all.",
    )
    offload_ended_days: float = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Days after its end after which all of a session is offloaded; 0 is never.",
    )
    offload_interval: float = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Seconds between two looks for what is to be offloaded.",
    )
    offload_segment_messages: int = Field(
        default=256,
        ge=2,
        le=1024,
        description="Messages that are compressed together at most. More take less space, and longer to"
        " read.",
    )
    jobs: bool = Field(
        default=True,
        description="Whether this replica takes part in the service's own jobs; each is done by one replica"
        " at a time.",
    )
    retention_interval: float = Field(
        default=3600,
        ge=0.1,
        le=7 * 86400,
        description="Seconds from one look for sessions that retention policies let go to the next.",
    )
    metrics_listen: str | None = Field(
        default=None,
        description="Where metrics for Prometheus are served, as HOST:PORT (port 0 is any free one); nowhere"
        " if left out.",
    )
    feed_hints: Literal["notify", "poll"] = Field(
        default="notify",
        description="How replicas learn of each other's changes: by LISTEN/NOTIFY, or by looking alone, for"
        " poolers and engines without it.",
    )
    feed_sweep: float = Field(
        default=1.0,
        ge=0.05,
        le=60,
        description="Seconds between two looks for changes of watched sessions that no hint told.",
    )
    feed_watches: int = Field(
        default=10_000, ge=0, le=1_000_000, description="Watches at most, of all callers."
    )
    feed_watches_per_connection: int = Field(
        default=1000, ge=0, le=1_000_000, description="Watches at most of one connection."
    )
    feed_buffer_bytes: int = Field(
        default=2**20,
        ge=2**16,
        le=2**30,
        description="Bytes that may wait for a watcher before it falls behind.",
    )
    feed_heartbeat: float = Field(
        default=15, ge=0.1, le=3600, description="Seconds of silence before a heartbeat."
    )
    feed_write_timeout: float = Field(
        default=60,
        ge=0.1,
        le=3600,
        description="Seconds before a watcher that takes nothing is cut off.",
    )
    feed_session_days: float = Field(
        default=7,
        gt=0,
        le=3650,
        description="Days for which a token of WatchSessions resumes, and deletions are remembered.",
    )
    settle_rest: float = Field(
        default=2,
        ge=0,
        le=3,
        description="Seconds for which a session that was settled isn't settled again: more costs less, and"
        " lists and WatchSessions are later.",
    )
    draft_window: float = Field(
        default=0.05,
        ge=0.005,
        le=10,
        description="Seconds in which pieces of a draft are gathered before watchers get them.",
    )
    draft_expiry: float = Field(
        default=30,
        ge=1,
        le=3600,
        description="Seconds without a sign of life before a draft is given up.",
    )
    feed_drafts: int = Field(
        default=1000, ge=0, le=1_000_000, description="Drafts at most that are relayed at once."
    )
    attachment_bytes: int = Field(
        default=64 * 2**20, ge=1, le=2**36, description="Bytes of an attachment at most."
    )
    session_attachments: int = Field(
        default=1000, ge=0, le=100_000, description="Attachments of a session at most."
    )
    session_attachment_bytes: int = Field(
        default=2**30,
        ge=0,
        le=2**40,
        description="Bytes that the attachments of a session have at most, together.",
    )
    session_uploads: int = Field(
        default=32,
        ge=0,
        le=1000,
        description="Unfinished uploads of a session at most that go on call by call (StartUpload).",
    )
    attachment_upload_expiry: float = Field(
        default=86_400,
        ge=1,
        le=30 * 86_400,
        description="Seconds without a call before such an upload is removed.",
    )
    attachment_executables: bool = Field(
        default=False, description="Whether executables are taken as attachments."
    )
    attachment_refused_extensions: Annotated[list[str], NoDecode] = Field(
        default=EXTENSIONS,
        description="Extensions of executables, separated by commas, in addition to files that begin like"
        " one.",
    )
    attachment_uploads: int = Field(
        default=32, ge=0, le=100_000, description="Uploads of attachments at most at once."
    )
    attachment_downloads: int = Field(
        default=64, ge=0, le=100_000, description="Downloads of attachments at most at once."
    )
    attachment_timeout: float = Field(
        default=60,
        ge=0.1,
        le=3600,
        description="Seconds before an upload of which nothing comes, or a download of which nothing is"
        " taken, is ended.",
    )
    imports: int = Field(
        default=8, ge=0, le=100_000, description="Imports of sessions at most at once."
    )
    import_timeout: float = Field(
        default=60,
        ge=0.1,
        le=3600,
        description="Seconds before an import of which nothing comes is ended.",
    )
    search: bool = Field(
        default=True, description="Whether messages are indexed and can be searched."
    )
    search_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="The share of the time that indexing may take, so that appends have the rest.",
    )
    search_timeout: float = Field(
        default=5, ge=0.1, le=50, description="Seconds that a search may take in the database."
    )
    shutdown_grace: float = Field(
        default=20, ge=0, le=3600, description="Seconds that calls under way get when stopping."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="How; auto is text on a terminal and JSON elsewhere."
    )

    @field_validator("listen", "attachment_refused_extensions", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        pieces = value if isinstance(value, list) else [value]
        return [p.strip() for piece in pieces for p in str(piece).split(",") if p.strip()]

    @field_validator("listen")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("give at least one address")
        for address in value:
            host, colon, port = address.rpartition(":")
            is_unix = address.startswith("unix:") and len(address) > len("unix:")
            if not is_unix and not (host and colon and port.isdigit() and int(port) < 65536):
                raise ValueError(f"{address!r} is neither HOST:PORT nor unix:/PATH")
        return value

    @field_validator("attachment_refused_extensions")
    @classmethod
    def _extensions(cls, value: list[str]) -> list[str]:
        return [extension.lower().removeprefix(".") for extension in value]

    @field_validator("metrics_listen")
    @classmethod
    def _metrics_address(cls, value: str | None) -> str | None:
        host, _, port = (value or "127.0.0.1:0").rpartition(":")
        if not (host and port.isdigit() and int(port) < 65536):
            raise ValueError(f"{value!r} isn't HOST:PORT")
        return value

    @field_validator("unix_socket_mode")
    @classmethod
    def _mode(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"0?[0-7]{3}", value):
            raise ValueError("must be an octal mode such as 0660")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        if self.dsn is not None and self.data_dir is not None:
            raise ValueError(
                "give either dsn or data_dir: the data directory is that of the Postgres which the"
                " service brings along when no DSN is given"
            )
        unix = any(address.startswith("unix:") for address in self.listen)
        if self.unix_socket_mode is not None and not unix:
            raise ValueError("unix_socket_mode is given, but listen has no unix:/PATH")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get("SESSIOND_CONFIG_FILE")
        if file is None:
            return init_settings, env_settings
        if not Path(file).is_file():
            raise SettingsError(f"SESSIOND_CONFIG_FILE: there is no file {file}")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)


def load(arguments: list[str], program: str) -> Settings:
    """The settings from flags, environment and file. Raises `SettingsError`."""
    try:
        return Settings(_cli_parse_args=arguments, _cli_prog_name=program)
    except ValidationError as error:
        raise SettingsError("; ".join(_reason(problem) for problem in error.errors())) from error


def _reason(problem: Any) -> str:
    where = ".".join(str(piece) for piece in problem["loc"])
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
