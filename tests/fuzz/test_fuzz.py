"""20,000 cases, of the same seed every time: no answer that the document does not declare, no error of the server's.

`make fuzz` sends as many others as one likes.
"""

import logging

import pytest
import structlog

from tests.fuzz.fuzzer import Fuzzer
from tests.fuzz.rig import running_rig
from tests.support.valkey import ValkeyProcess

SEED = 20_261_127
SHARDS = 8
CASES = 2_500
"""Of each shard."""
DRAWN = 180
"""Of them, those that schemathesis draws from the schemas besides its coverage phase; the others are mixed of these."""


@pytest.mark.parametrize("shard", range(SHARDS))
def test_whatever_is_sent_is_answered_as_documented(valkey: ValkeyProcess, shard: int) -> None:
    configured = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        with running_rig(valkey.url) as rig:
            fuzzer = Fuzzer(rig, SEED, shard=shard, shards=SHARDS)
            fuzzer.cover()
            fuzzer.draw(DRAWN)
            fuzzer.mix(CASES - fuzzer.counts.total())
    finally:
        structlog.configure(**configured)

    assert not fuzzer.failures, "\n".join(fuzzer.failures.values())
    assert fuzzer.counts.total() >= CASES
    good = {label for label, status in fuzzer.answers if status < 300}
    assert good == set(fuzzer.labels), "the fuzzer does not get everywhere"
    assert {status for _, status in fuzzer.answers} >= {200, 401, 403, 405, 422}
