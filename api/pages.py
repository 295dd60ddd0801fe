"""Lists of what administrators see: a page in the same form as that of jobs."""

from collections.abc import Sequence

from api.answers import Answer, Header, json_answer

NEVER_KEPT: Header = (b"cache-control", b"no-store")


def page(rows: Sequence[dict[str, object]], has_more: bool, name: str) -> Answer:
    """Rows in order; `name` is the member by which the next page is asked for."""
    return json_answer(
        {
            "object": "list",
            "data": list(rows),
            "has_more": has_more,
            "first_id": rows[0][name] if rows else None,
            "last_id": rows[-1][name] if rows else None,
        },
        200,
        [NEVER_KEPT],
    )
