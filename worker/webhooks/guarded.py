"""One POST to an address that users chose: it goes to public servers (and what the operator allows), or nowhere.

The last step of a delivery. The name is looked up once, every address it has is judged, and the connection is
made to one of them. No redirect is followed, no proxy is taken from the environment, nothing is decompressed;
time and bytes are bounded.
"""

import asyncio
import codecs
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpcore2

from jobs.egress import (
    NameServerError,
    NameUnknownError,
    Policy,
    Refused,
    Resolver,
    SystemResolver,
    Target,
    parse,
)
from jobs.egress.target import IPAddress
from worker.headers import parse_http_date_s, parse_retry_after_s
from worker.webhooks.connecting import AnswerTooLargeError, CheckedBackend, ConnectFailedError
from worker.webhooks.forward_proxy import ForwardProxy
from worker.webhooks.kept import KEPT_S, KeptConnections

TOTAL_S: Final = 15.0
LOOKUP_S: Final = 5.0
CONNECT_S: Final = 4.0
ANSWER_MAX_BYTES: Final = 16_384
SNIPPET_MAX_BYTES: Final = 1024
