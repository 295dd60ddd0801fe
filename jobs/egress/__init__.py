"""The egress guard: where webhooks may go, judged at submission and again at each delivery.

`parse` reads a URL, `Policy` judges it and the addresses it leads to, `SubmissionCheck` looks its name up;
the delivery's side, which connects, is in worker/webhooks/guarded.py.
"""

from jobs.egress.policy import Policy
from jobs.egress.resolver import NameServerError, NameUnknownError, Resolver, SystemResolver
from jobs.egress.submission import SubmissionCheck
from jobs.egress.target import Host, IPAddress, Refused, Target
from jobs.egress.url import parse

__all__ = [
    "Host",
    "IPAddress",
    "NameServerError",
    "NameUnknownError",
    "Policy",
    "Refused",
    "Resolver",
    "SubmissionCheck",
    "SystemResolver",
    "Target",
    "parse",
]
