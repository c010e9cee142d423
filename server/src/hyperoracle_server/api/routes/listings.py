"""Long answers, made where their route works: in its thread, row by row.

What a route returns as a message is turned into JSON on the event loop, and in one call that lets
no other thread run: ten megabytes of a schedule are 150 ms in which nobody else is answered.
"""

from __future__ import annotations

from starlette.responses import Response

from hyperoracle_protocol.base import Message


def listing(message: Message, field: str) -> Response:
    """A message as JSON, the rows of one of its fields one after the other.

    Args:
        message: whose JSON it is.
        field: a list of messages.
    """
    rows: list[Message] = getattr(message, field)
    frame = message.model_copy(update={field: []}).model_dump_json()
    before, found, after = frame.partition(f'"{field}":[]')
    assert found, "an empty list is written like this"
    parts = [f'{before}"{field}":['.encode()]
    for row in rows:
        parts += [row.model_dump_json().encode(), b","]
    if rows:
        parts.pop()
    parts.append(f"]{after}".encode())
    return Response(b"".join(parts), media_type="application/json")
