"""docs/openapi.json, written anew: `make openapi`."""

import json
from pathlib import Path

from fakeredis import FakeAsyncRedis

from api.app import create_app
from tests.api.harness import config, own_environment

KEPT = Path(__file__).parents[2] / "docs" / "openapi.json"


def write() -> None:
    """The document of the application as it is; no configuration changes it."""
    app = create_app(config(), own_environment(), FakeAsyncRedis())
    KEPT.write_text(json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write()
