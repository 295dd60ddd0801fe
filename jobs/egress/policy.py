"""What the operator allows webhooks besides https to public addresses, and how a target is judged by it.

Pure: the API asks before a job is accepted, the worker again with the addresses it is about to connect to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from jobs.config.addresses import AllowEntry, parse_allow_entry
from jobs.config.model import Webhooks
from jobs.egress.addresses import Forbidden, Rule, verdict
from jobs.egress.target import Host, IPAddress, Refused, Scheme, Target

USUAL_PORTS: Final[dict[Scheme, tuple[int, ...]]] = {"https": (443, 8443), "http": (80, 8080)}

LOCAL_NAMES: Final = (
    "localhost",  # RFC 6761
    "local",  # RFC 6762
    *("intranet", "internal", "private", "corp", "home", "lan"),  # RFC 6762, appendix G
    "home.arpa",  # RFC 8375
    "localdomain",  # not registered, but in many hosts files
)
"""Names, with all below them, that mean something else on every network. Their addresses are judged like all
others; refusing the names tells a caller at once, also where no name server knows them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`allow` are the exceptions; an entry holds for the usual schemes and ports, or for its own port alone."""

    allow_http: bool = False
    allow: tuple[AllowEntry, ...] = ()

    @classmethod
    def of(cls, settings: Webhooks) -> Self:
        """The policy that the configuration describes."""
        return cls(settings.allow_http, tuple(parse_allow_entry(entry) for entry in settings.allow))

    def refuse(self, target: Target) -> Refused | None:
        """What can be said against `target` without looking its name up: port, scheme, name, its own address."""
        if self._names(target):
            return None
        has_network = any(entry.network is not None for entry in self._entries_for(target))
        if not has_network and not self._is_usual(target):
            return self._refused_port(target)
        if target.host.address is not None:
            return self.refuse_addresses(target, [target.host.address])
        if not has_network and _is_local(target.host):
            return Refused(
                "local_name",
                "has a host name of local networks only; use a public one, or ask the operator to list it in "
                "webhooks.allow",
            )
        return None

    def refuse_addresses(self, target: Target, addresses: Iterable[IPAddress]) -> Refused | None:
        """What can be said against connecting to `addresses`, which are `target`'s: one bad one is enough."""
        if self._names(target):
            return None
        networks = [entry.network for entry in self._entries_for(target) if entry.network is not None]
        is_usual = self._is_usual(target)
        for address in addresses:
            judgement = verdict(address, networks)
            if isinstance(judgement, Forbidden):
                return _refused_address(target, judgement.rule)
            if not is_usual and not any(address in network for network in networks):
                return self._refused_port(target)
        return None

    def _entries_for(self, target: Target) -> list[AllowEntry]:
        is_usual = self._is_usual(target)
        return [
            entry for entry in self.allow if entry.port == target.port or (entry.port is None and is_usual)
        ]

    def _names(self, target: Target) -> bool:
        return any(entry.host == target.host.text for entry in self._entries_for(target))

    def _is_usual(self, target: Target) -> bool:
        return self._has_scheme(target.scheme) and target.port in USUAL_PORTS[target.scheme]

    def _has_scheme(self, scheme: Scheme) -> bool:
        return scheme == "https" or self.allow_http

    def _refused_port(self, target: Target) -> Refused:
        if not self._has_scheme(target.scheme):
            return Refused("scheme", "must begin with https://")
        ports = " or ".join(str(port) for port in USUAL_PORTS[target.scheme])
        return Refused("port", f"has port {target.port}; with {target.scheme} it must be {ports}")


def _is_local(host: Host) -> bool:
    if "." not in host.text:
        return True
    return any(host.text == name or host.text.endswith(f".{name}") for name in LOCAL_NAMES)


def _refused_address(target: Target, rule: Rule) -> Refused:
    """Names the rule, never the address: what a name leads to inside the operator's network is not told."""
    does = "is" if target.host.address is not None else "has a host that leads to"
    opening = "its network or address" if rule.opens_to_range else "exactly this address, or the host name,"
    return Refused(
        rule.name,
        f"{does} {rule.what}, and webhooks go to public addresses only; use a public one, or ask the operator "
        f"to list {opening} in webhooks.allow",
    )
