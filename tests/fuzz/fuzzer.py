"""The fuzzer: schemathesis's cases for each operation, and cases mixed of their parts, all judged by all its checks.

Drawing a case from a schema takes 3 to 50 ms, sending and judging it 2: so a part of the cases is drawn, and the rest
are new combinations of what was drawn, with strange values in the bodies and strange bytes on the wire.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any, Final
from urllib.parse import quote

import jsonschema_rs
import schemathesis
import schemathesis.checks
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.generation.meta import (
    CaseMetadata,
    ComponentInfo,
    FuzzingPhaseData,
    GenerationInfo,
    PhaseInfo,
    TestPhase,
)
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.fuzz.document import told
from tests.fuzz.mutations import OF_BODIES, OF_HEADS, changed
from tests.fuzz.rig import Rig
from tests.fuzz.wire import BASE_URL, RigTransport

AS_IT_STANDS: Final = frozenset({"idempotency_key_reused", "job_too_large", "webhook_url_forbidden"})
"""Refusals of what is well formed: for what came before, or for limits, which no document can say."""

SAID_IN_WORDS: Final = (
    "is not registered: create it first",
    "levels deep",
    "is also set in overrides",
    "would steer the provider's connection",
    "must be before the job expires",
    "name and description are one thing",
)
"""Rules about several fields, or about all of a body, of which JSON Schema knows nothing."""

_MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
_ASKING: Final = ("ann", "eve", "ann", "admin", "ann", "limited", "eve", "guest", "ann", "eve")
_OWNING: Final = ("ann", "ann", "eve", "ann", "ann", "admin", "ann", "ann", "guest", "ann")
_ADMINISTERING: Final = ("admin",) * 9 + ("ann",)
_OF_MIND: Final = (negative_data_rejection, positive_data_acceptance)
"""The checks that take a word for whether a case is meant to be good."""


Operation = APIOperation[Any, Any, Any, Any]


class Fuzzer:
    """`counts` are the cases by origin, `answers` those by operation and status, `failures` one report per kind.

    Of `shards` fuzzers with the numbers from 0, each has its own part of the operations.
    """

    def __init__(self, rig: Rig, seed: int, *, shard: int = 0, shards: int = 1) -> None:
        self._rig = rig
        self._seed = seed
        self._random = Random(seed)
        self._transport = RigTransport(rig)
        document = told(rig.app.openapi())
        self._schema = _loaded(document, self._transport)
        self._operations = list(_operations(self._schema))[shard::shards]
        self._validators = dict(_validators(document))
        self._kept: dict[str, list[Case[Any]]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.failures: dict[tuple[str, ...], str] = {}

    @property
    def labels(self) -> list[str]:
        """Each operation's method and path."""
        return [operation.label for operation in self._operations]

    def cover(self) -> None:
        """Schemathesis's coverage phase: each boundary of each schema, and methods and types that are not there."""
        for operation in self._operations:
            config = self._schema.config.generation_for(operation=operation)
            for case in self._schema.iter_coverage_cases(
                operation, generation_modes=list(_MODES), generation_config=config
            ):
                self._judge(case, "covered")

    def draw(self, cases: int) -> None:
        """Schemathesis's fuzzing phase: good and bad cases drawn by Hypothesis, as many for each operation."""
        each = max(1, -(-cases // (len(self._operations) * len(_MODES))))
        for operation in self._operations:
            for mode in _MODES:
                self._draw(operation, mode, each)

    def _draw(self, operation: Operation, mode: GenerationMode, cases: int) -> None:
        @seed(self._seed)
        @settings(
            max_examples=cases,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            deadline=None,
        )
        @given(operation.as_strategy(mode))
        def judged(case: Case[Any]) -> None:
            self._kept[operation.label].append(case)
            self._judge(case, "drawn")

        try:
            judged()
        except Unsatisfiable:
            # What takes no parameters cannot be asked wrongly.
            assert not operation.body
            assert not list(operation.iter_parameters())

    def mix(self, cases: int) -> None:
        """New combinations of the parts of drawn cases, half of them with something strange in or about them."""
        weighted = [operation for operation in self._operations for _ in range(4 if operation.body else 1)]
        for _ in range(cases):
            self._mix(self._random.choice(weighted))

    def _mix(self, operation: Operation) -> None:
        random = self._random
        drawn = self._kept[operation.label]
        parts = [random.choice(drawn) for _ in range(4)]
        trusted = not any(
            part.meta.is_negative_at(place) for part, place in zip(parts, _PLACES, strict=False) if part.meta
        )
        case = operation.Case(
            path_parameters=dict(parts[0].path_parameters),
            query=dict(parts[1].query),
            headers=parts[2].headers.copy(),
            media_type=parts[3].media_type,
        )
        mode = GenerationMode.POSITIVE
        if operation.body:
            body = parts[3].body
            # Bytes are what schemathesis makes of a body that is to be no JSON at all.
            as_json = body is not NOT_SET and not isinstance(body, bytes)
            if random.randrange(3) and as_json:
                body = changed(body, random.choice(drawn).body, random)
            case.body = map_body(None, body)
            trusted = trusted and as_json
            good = as_json and self._validators[operation.label].is_valid(body)
            mode = GenerationMode.POSITIVE if good else GenerationMode.NEGATIVE
        case._meta = _meta(mode, ParameterLocation.BODY)
        if random.randrange(3) == 0:
            mutations = OF_BODIES + OF_HEADS if operation.body else OF_HEADS
            mutation = random.choice(mutations)
            self._transport.mangle_next(lambda asked: mutation(asked, random))
            trusted = False
        self._judge(case, "mixed", excluded=() if trusted else _OF_MIND)

    def _judge(self, case: Case[Any], origin: str, *, excluded: tuple[Any, ...] = ()) -> None:
        self.counts[origin] += 1
        case.path_parameters = {name: _in_a_path(value) for name, value in case.path_parameters.items()}
        headers = self._headers(case)
        try:
            response = case.call(BASE_URL, headers=headers)
            self.answers[case.operation.label, response.status_code] += 1
            if _is_as_it_stands(response):
                excluded = (*excluded, positive_data_acceptance)
            case.validate_response(
                response,
                headers=headers,
                excluded_checks=list(excluded),
                transport_kwargs={"headers": headers, "base_url": BASE_URL},
            )
        except FailureGroup as group:
            for failure in group.exceptions:
                kind = (case.operation.label, type(failure).__name__, str(failure)[:80])
                self.failures.setdefault(kind, f"seed {self._seed}, {origin}: {group}")

    def _headers(self, case: Case[Any]) -> dict[str, str]:
        if not case.operation.definition.raw.get("security"):
            return {}
        path = case.operation.path
        users = _ADMINISTERING if "/admin/" in path else _OWNING if "{" in path else _ASKING
        return self._rig.as_user(users[self.counts.total() % len(users)])


_PLACES: Final = (ParameterLocation.PATH, ParameterLocation.QUERY, ParameterLocation.HEADER)


def _loaded(document: dict[str, Any], transport: RigTransport) -> BaseSchema:
    schema = schemathesis.openapi.from_dict(document)
    # Who asks is our choice for each case; asking without a key is tried by the checks and by mutations.
    schema.config.generation.update(with_security_parameters=False)
    own = type("RigSchema", (type(schema),), {"transport": transport})
    schema.__class__ = own
    schema.hook(map_body)
    return schema


def _operations(schema: BaseSchema) -> Iterator[Operation]:
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        yield found.ok()


def map_body(context: Any, body: Any) -> Any:
    """JSON Schema takes 5.0 for an integer; the API does not, as its reference says."""
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() and abs(body) < 2**53 else body


def _in_a_path(value: object) -> object:
    """Schemathesis leaves a list or an object unquoted, and a `#` in it would end the path: another would be asked."""
    return quote(str(value), safe="") if isinstance(value, list | dict) else value


def _validators(document: dict[str, Any]) -> Iterator[tuple[str, jsonschema_rs.Validator]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                root = {**schema, "components": document["components"]}
                yield f"{method.upper()} {path}", jsonschema_rs.Draft202012Validator(root)


def _meta(mode: GenerationMode, location: ParameterLocation) -> CaseMetadata:
    return CaseMetadata(
        generation=GenerationInfo(time=0.0, mode=mode),
        components={location: ComponentInfo(mode=mode)},
        phase=PhaseInfo(
            name=TestPhase.FUZZING,
            data=FuzzingPhaseData(
                description=None, parameter=None, parameter_location=location, location=None
            ),
        ),
    )


def _is_as_it_stands(response: Response) -> bool:
    if response.status_code != 422:
        return False
    told = response.json()
    return told["code"] in AS_IT_STANDS or any(rule in told["detail"] for rule in SAID_IN_WORDS)
