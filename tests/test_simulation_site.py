"""The simulated site when more come than it can take."""

import msgspec
import numpy as np
import numpy.typing as npt

from harness.fault import Fault
from harness.history.ledger import LEDGER_DTYPE, RequestKind
from harness.plan import Site
from harness.simulation.service_times import constant
from harness.vote import Outcome
from tests.test_simulation import MS, TIMES, plan, world

EACH_NS = 20 * MS  # in the interpreter, one after the other: 50 votes a second
SLOW = msgspec.structs.replace(TIMES, python_ns=constant(EACH_NS))
AT_WORK = 4
REST_NS = 5 * MS  # whatever else a vote or a refusal takes, and more


def attempts(site: Site, *faults: Fault) -> npt.NDArray[np.void]:
    """The answered votes of the ledger of three times as many as the site can take."""
    site = msgspec.structs.replace(site, workers=1, threads=AT_WORK)
    of = plan(*faults, per_s=150.0, modes=("direct",), site=site)
    ledger = np.frombuffer(world("direct", of, SLOW, cores=8).records.ledger, LEDGER_DTYPE)
    return ledger[(ledger["answered_ns"] > 0) & (ledger["kind"] == RequestKind.VOTE)]


def took_ns(votes: npt.NDArray[np.void], outcome: Outcome) -> npt.NDArray[np.int64]:
    of = votes[votes["outcome"] == outcome]
    took: npt.NDArray[np.int64] = of["answered_ns"] - of["sent_ns"]
    return took


def test_beyond_those_who_may_wait_a_simulated_site_refuses_at_once() -> None:
    votes = attempts(Site(waiting=10))
    taken, refused = took_ns(votes, Outcome.ACKNOWLEDGED), took_ns(votes, Outcome.REFUSED)
    assert len(refused) > len(taken) > 100
    assert refused.max() < REST_NS
    longest_ns = (10 + AT_WORK + 1) * EACH_NS
    assert longest_ns / 2 < taken.max() < longest_ns + REST_NS
    assert len(refused) + len(taken) == len(votes)


def test_who_has_waited_long_enough_is_refused_by_a_simulated_site() -> None:
    wait_ns = 300 * MS
    votes = attempts(Site(waiting=4096, wait_s=0.3))
    taken, refused = took_ns(votes, Outcome.ACKNOWLEDGED), took_ns(votes, Outcome.REFUSED)
    assert len(refused) > len(taken) > 100
    assert wait_ns <= refused.min() <= refused.max() < wait_ns + REST_NS
    assert taken.max() < wait_ns + AT_WORK * EACH_NS + REST_NS


def test_in_a_stopped_process_nobody_is_refused_until_it_goes_on() -> None:
    stop = Fault(kind="pause", at_s=1.0, target="site", for_s=1.0)
    votes = attempts(Site(waiting=20, wait_s=0.1), stop)
    since_ns = votes["answered_ns"] - votes["sent_ns"].min()
    assert not ((since_ns > 1000 * MS + REST_NS) & (since_ns < 1900 * MS)).any()
    waited = took_ns(votes, Outcome.REFUSED) > 1000 * MS
    assert waited.any()  # they stood in the queue when it stopped
