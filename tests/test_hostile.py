"""A real site against requests that nobody well-meaning sends: it stands, and gives nothing away.

`POLLSTORM_FUZZ_REQUESTS` says how many, `POLLSTORM_FUZZ_SEED` which; `make fuzz` sends 100,000.
See docs/api.md, "Hostile input".
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from harness.services.mariadb import MariadbServer
from harness.services.processes import Supervisor
from tests.attacks import Attack, batches, request, vote
from tests.besieged import Besieged, besieged
from tests.hostile_text import COMMANDS, GENERATED, MARKER, ONCE, POLL, SQL, encoded, percent, wish

pytestmark = pytest.mark.services

ROOT = Path(__file__).parent.parent
MODES = ("direct", "ticket")
REQUESTS = int(os.environ.get("POLLSTORM_FUZZ_REQUESTS", "500"))
SEED = int(os.environ.get("POLLSTORM_FUZZ_SEED", "1"))
BATCH = 20  # attacks, and then an ordinary vote
BATCH_CPU_S = 0.1  # it takes 0.01 to 0.03: so dear no single request may be
AT_ONCE = 4  # of them; the site has as many threads in each of two processes
ROUND = 100  # batches of one seed; Hypothesis remembers all that it has tried, so not too many
GENERATED_SHARE = 0.1  # beside them, so many by schemathesis, which takes longer for each
EXAMPLES = max(2, round(REQUESTS * GENERATED_SHARE / len(MODES) / 12))  # of some 12 operations
GENERATE_LIMIT_S = 3600.0  # for a million requests
CONFIGURATION = {
    "cache": {"enabled": False},
    "dictionaries": {"polls": {"values": [GENERATED]}},
    "parameters": {"path.poll": {"dictionary": "polls", "probability": 0.8}},
    "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503", "504"]}},
}


@pytest.fixture(scope="module", params=MODES)
def site(
    request: pytest.FixtureRequest,
    supervisor: Supervisor,
    mariadb: MariadbServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Besieged]:
    folder = tmp_path_factory.mktemp(f"siege-{request.param}")
    with besieged(request.param, supervisor, mariadb, folder) as under_attack:
        yield under_attack


def test_it_answers_as_its_document_says(site: Besieged, tmp_path: Path) -> None:
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(tomli_w.dumps(CONFIGURATION))
    command = [
        *(Path(sys.executable).with_name("schemathesis"), f"--config-file={configuration}", "run"),
        *(f"{site.site.url}/openapi.json", "--phases=coverage,fuzzing", "--exclude-method=OPTIONS"),
        *(f"--max-examples={EXAMPLES}", f"--seed={SEED}", "--generation-database=none"),
        "--no-color",
    ]
    ended = subprocess.run(
        command,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.generated_votes"},
        cwd=ROOT,  # where Hypothesis finds its tables of characters, which take 3 s to make
        capture_output=True,
        text=True,
        timeout=GENERATE_LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    print(f"{site.deployment.mode}, by schemathesis: {line_with('generated', ended.stdout)}")
    site.require_unharmed()


def line_with(word: str, text: str) -> str:
    return next(line.strip() for line in text.splitlines() if word in line)


def test_it_stands_whatever_is_sent(site: Besieged) -> None:
    wanted = REQUESTS // len(MODES)
    before = site.sent.total()
    for number in range(wanted):  # each round sends one request at least
        missing = before + wanted - site.sent.total()
        if missing <= 0:
            break
        assault(site, SEED + number, min(ROUND, -(-missing // (BATCH + 1))))
    site.require_rarely_busy()
    print(f"{site.deployment.mode}, seed {SEED}")
    print(f"  requests: {listed(site.sent)}\n  answers: {listed(site.told)}")


def listed(counts: Counter[str] | Counter[int]) -> str:
    each = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return f"{counts.total():,}: {each}"


def assault(site: Besieged, seed_of_round: int, rounds: int) -> None:
    """So many batches that follow from the seed. A failure tells how to repeat it.

    None is made smaller: a site that fell once may stay down, whatever it is sent then.
    """

    @seed(seed_of_round)
    @settings(
        max_examples=rounds,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,  # it would print all twenty, whatever they are of length
    )
    @given(batch=batches(BATCH))
    def assail(batch: list[Attack]) -> None:
        cpu_s = site.cpu_s()
        with ThreadPoolExecutor(AT_ONCE) as crowd:
            answered = [crowd.submit(site.suffer, attack) for attack in batch]
        for attack, told in zip(batch, answered, strict=True):
            try:
                told.result()
            except Exception as error:
                error.add_note(f"after {attack!r}")
                raise
        site.require_unharmed()
        took_s = site.cpu_s() - cpu_s
        assert took_s <= BATCH_CPU_S, f"{took_s:.2f} s of processor time for {batch}"

    try:
        assail()
    except Exception as error:
        error.add_note(
            f"repeat it: POLLSTORM_FUZZ_SEED={seed_of_round} POLLSTORM_FUZZ_REQUESTS={REQUESTS} "
            f".venv/bin/pytest tests/test_hostile.py -k 'stands and {site.deployment.mode}'"
        )
        raise


def test_a_name_with_a_command_in_it_is_refused(site: Besieged) -> None:
    """Of memcached's text protocol, whose commands end where a line does and part at spaces."""
    for command in COMMANDS:
        voter = request("body", body=encoded(wish(command)))
        assert statuses(site, voter) == [422]
        poll = request("target", target=b"/polls/%s/votes" % percent(command), body=encoded(wish()))
        assert statuses(site, poll) == [404]
    site.require_unharmed()


@pytest.mark.parametrize("voter", [*SQL, "v" * 64, "~" * 64, f"{MARKER}:{POLL}", "%s%n", "a,b|c"])
def test_a_name_that_only_looks_like_a_command_is_a_name(site: Besieged, voter: str) -> None:
    for poll in (POLL, ONCE):
        assert statuses(site, vote(wish(voter), poll)) in ([201], [202], [409])


def statuses(site: Besieged, attack: Attack) -> list[int]:
    return [answer.status for answer in site.suffer(attack).answers]


def test_nothing_is_counted_but_what_voters_wished(site: Besieged) -> None:
    site.drain()
    site.require_only_wishes_counted()


def test_memcached_holds_nothing_that_is_not_the_sites(site: Besieged) -> None:
    site.require_memcached_untouched()


def test_the_database_has_nothing_more_and_nothing_less(site: Besieged) -> None:
    site.require_database_untouched()


def test_the_logs_quote_nobody_and_have_no_secret(site: Besieged) -> None:
    site.require_nothing_logged()
