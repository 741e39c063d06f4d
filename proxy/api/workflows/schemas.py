"""The schemas of events and specs, which anybody may read."""

from __future__ import annotations

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from proxy.wire.workflow_schemas import MEDIA_TYPE, Schema, run_event, workflow


def routes() -> list[HTTPRouteHandler]:
    @get("/schemas/run_event.schema.json", sync_to_thread=False)
    def event_schema() -> Response[bytes]:
        return published(run_event())

    @get("/schemas/workflow.schema.json", sync_to_thread=False)
    def workflow_schema() -> Response[bytes]:
        return published(workflow())

    return [event_schema, workflow_schema]


def published(schema: Schema) -> Response[bytes]:
    return Response(msgspec.json.encode(schema), media_type=MEDIA_TYPE)
