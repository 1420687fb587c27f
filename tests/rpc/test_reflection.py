"""Server reflection tells a client that has no protos all it needs, what is in a refusal included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from sessiond_server.rpc.server import SERVICES
from tests.support.processes import ServerProcess


class Reflected:
    """A client that learns every type from the server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.database: Any = ProtoReflectionDescriptorDatabase(channel)
        self.pool: Any = DescriptorPool(self.database)

    def made(self, name: str) -> Any:
        return GetMessageClass(self.pool.FindMessageTypeByName(name))

    def call(self, service: str, method: str, **fields: Any) -> Any:
        its = self.pool.FindServiceByName(service).methods_by_name[method]
        request = GetMessageClass(its.input_type)(**fields)
        call: Any = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=GetMessageClass(its.output_type).FromString,
        )
        return call(request)


@pytest.fixture
def reflected(server: ServerProcess) -> Iterator[Reflected]:
    with grpc.insecure_channel(server.target) as channel:
        yield Reflected(channel)


def test_reflection_lists_every_service(reflected: Reflected) -> None:
    assert {service.full_name for service in SERVICES} <= set(reflected.database.get_services())


def test_the_details_of_a_refusal_can_be_decoded_over_reflection(reflected: Reflected) -> None:
    """As grpcurl and buf curl do."""
    with pytest.raises(grpc.RpcError) as raised:
        reflected.call("sessiond.v1.SessionService", "GetSession", session_id="a\nb")
    error: Any = raised.value
    trailers = dict(error.trailing_metadata())
    status = reflected.made("google.rpc.Status").FromString(trailers["grpc-status-details-bin"])
    details = {}
    for packed in status.details:
        name = packed.type_url.rpartition("/")[2]
        details[name] = reflected.made(name).FromString(packed.value)
    assert details["google.rpc.ErrorInfo"].reason == "INVALID_FIELD"
    violations = details["google.rpc.BadRequest"].field_violations
    assert [violation.field for violation in violations] == ["session_id"]
    assert reflected.made("google.rpc.RetryInfo").DESCRIPTOR.fields_by_name["retry_delay"]


def test_the_options_of_a_method_can_be_read_over_reflection(reflected: Reflected) -> None:
    service = reflected.pool.FindServiceByName("sessiond.v1.SessionService")
    encoded = service.methods_by_name["CreateSession"].GetOptions().SerializeToString()
    options = reflected.made("google.protobuf.MethodOptions").FromString(encoded)
    extension = reflected.pool.FindExtensionByName("sessiond.v1.method")
    assert list(options.Extensions[extension].retry_fields) == ["request_id"]
