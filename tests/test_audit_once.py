"""Once-only polls: what the count turned away, who was counted twice, and who says so."""

from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.audit.accounts import PARTS, condemned, settle, settle_files
from harness.audit.certificates import life_of
from harness.audit.examination import audit_run
from harness.audit.verdict import rule_kept
from harness.cli.audit import audit
from harness.errors import Exit, HistoryError, PlanError
from harness.history.store import write_parquet
from harness.plan import Plan, PollPlan, Site
from harness.protocol.commands import Add, Get, KeyKind, Status
from harness.result import Accounts, FaultRecord, RunResult
from harness.run_folder import RunFolder
from harness.vote import Outcome, mint, voter_of
from tests.histories import attempt, ballot, command, facts, make_trial, rejection
from tests.test_certificates import FIRST as COLD
from tests.test_certificates import drain
from tests.test_certificates import vote as queued

ACKNOWLEDGED, UNKNOWN, REFUSED = Outcome.ACKNOWLEDGED, Outcome.UNKNOWN, Outcome.REFUSED
EACH = 2  # votes of each voter: 0 and 1 are the first voter's, 2 and 3 the second's


def settled(path: Path, ledger=(), ballots=(), rejections=(), **changes) -> Accounts:
    changes = {"votes_each": EACH} | changes
    trial = make_trial(path / "trial", ledger, ballots, rejections=rejections, **changes)
    return settle(trial, trial.read_facts())


def nonzero(accounts: Accounts) -> dict[str, int]:
    return {n: getattr(accounts, n) for n in PARTS if getattr(accounts, n)}


FIRST = attempt(0)
VOTES = [attempt(n) for n in range(4)]  # of two voters
BALLOTS = [ballot(0), ballot(2)]
REJECTIONS = [rejection(1), rejection(3)]


@pytest.mark.parametrize(
    ("second", "ballots", "rejections", "expected"),
    [
        (attempt(1), [ballot(0)], [rejection(1)], {"counted": 1, "rejected": 1}),
        (attempt(1), [ballot(1)], [rejection(0)], {"counted": 1, "rejected": 1}),
        (attempt(1), [ballot(0)], [], {"counted": 1, "lost": 1}),
        (attempt(1), [], [rejection(1)], {"lost": 2}),
        (attempt(1), [], [rejection(0), rejection(1)], {"lost": 2}),
        (attempt(1), [ballot(0), ballot(1)], [rejection(1)], {"counted": 2}),
        (attempt(1, REFUSED), [ballot(0)], [], {"counted": 1, "refused": 1}),
        (attempt(1, REFUSED), [ballot(1)], [rejection(0)], {"resurrected": 1, "rejected": 1}),
        (attempt(1, REFUSED), [ballot(0)], [rejection(1)], {"counted": 1, "refused": 1}),
        (attempt(1, UNKNOWN), [ballot(0)], [rejection(1)], {"counted": 1, "absent": 1}),
        (attempt(1, UNKNOWN), [ballot(1)], [rejection(0)], {"recovered": 1, "rejected": 1}),
        (attempt(2), [ballot(0)], [rejection(2, voter="voter-0")], {"counted": 1, "lost": 1}),
    ],
)
def test_a_vote_is_rejected_only_if_another_one_of_its_voter_has_a_ballot(
    tmp_path, second, ballots, rejections, expected
):
    accounts = settled(tmp_path, [FIRST, second], ballots, rejections)
    assert nonzero(accounts) == expected
    assert accounts.acknowledged == sum(
        getattr(accounts, n) for n in ("counted", "lost", "altered", "pending", "rejected")
    )


def run_of(path: Path, mode: str, *ballots, repeat: int = 1, **changes) -> RunResult:
    """Audit so many repetitions of `VOTES`; the last one has these ballots."""
    # Without a journal, or the audit would be asked for causes that these histories lack.
    plan = Plan(
        scenario="x", modes=(mode,), repeat=repeat, poll=PollPlan(once=True),
        site=Site(journal=False),
    )  # fmt: skip
    folder = RunFolder.create(path, plan, path / "run")
    for repetition in range(1, repeat + 1):
        held = ballots if repetition == repeat else BALLOTS
        make_trial(
            folder.trial(mode, repetition).path, VOTES, held, rejections=REJECTIONS,
            votes_each=EACH, mode=mode, **changes,
        )  # fmt: skip
    return audit_run(folder, command="x", started_utc="2026-01-01", partial=False)


def test_what_was_rejected_is_known_before_the_drain_is_complete(tmp_path):
    ledger = [attempt(n) for n in range(3)]
    accounts = settled(tmp_path, ledger, [ballot(0)], [rejection(1)], drained=False)
    assert nonzero(accounts) == {"counted": 1, "rejected": 1, "pending": 1}


def test_only_what_is_lost_is_asked_for_a_certificate(tmp_path):
    trial = make_trial(
        tmp_path / "t", VOTES, [ballot(0)], rejections=[rejection(1), rejection(3)], votes_each=2
    )
    assert condemned(trial, trial.read_facts()) == [(mint(1, 2), "lost"), (mint(1, 3), "lost")]


def test_voters_are_counted_by_their_ballots_and_found_when_they_have_two(tmp_path):
    ledger = [attempt(n) for n in range(6)]
    ballots = [ballot(0), ballot(1), ballot(2), ballot(2)]  # the last is one ballot in two rows
    accounts = settled(tmp_path, ledger, ballots)
    assert (accounts.voters, accounts.voters_counted, accounts.overvotes) == (3, 2, 1)


@pytest.mark.parametrize(
    ("names", "overvotes"),
    [
        (("a", "b"), 1),  # by their ids they are one voter's: the database's key cannot see it
        (("a", "a"), 1),
    ],
)
def test_a_voter_with_two_names_is_one(tmp_path, names, overvotes):
    ballots = [ballot(n, voter=name) for n, name in enumerate(names)]
    accounts = settled(tmp_path, [attempt(0), attempt(1)], ballots)
    assert (accounts.voters_counted, accounts.overvotes) == (1, overvotes)


def test_two_ballots_under_one_name_are_an_overvote_whosever_they_are(tmp_path):
    ledger = [attempt(0), attempt(2)]
    accounts = settled(tmp_path, ledger, [ballot(0, voter="a"), ballot(2, voter="a")])
    assert (accounts.voters_counted, accounts.overvotes) == (2, 1)


def test_ballots_without_names_are_told_apart_by_their_ids(tmp_path):
    ledger = [attempt(0), attempt(2), attempt(3)]
    ballots = [ballot(n, voter="") for n in (0, 2)]
    assert settled(tmp_path, ledger, ballots).overvotes == 0
    ballots.append(ballot(3, voter=""))
    assert settled(tmp_path / "twice", ledger, ballots).overvotes == 1


def test_who_votes_in_two_polls_votes_once_in_each(tmp_path):
    other = ballot(1) | {"poll": "another"}
    accounts = settled(tmp_path, [FIRST, attempt(1)], [other], [rejection(0)])
    assert nonzero(accounts) == {"counted": 1, "lost": 1}
    accounts = settled(tmp_path / "both", [FIRST, attempt(1)], [ballot(0), other])
    assert (accounts.voters_counted, accounts.overvotes) == (2, 0)


def test_ballots_that_nobody_planned_belong_to_the_name_that_they_bear(tmp_path):
    strangers = [ballot(0, generator=9, voter="x"), ballot(1, generator=9, voter="x")]
    accounts = settled(tmp_path, [FIRST], [ballot(0), *strangers])
    assert (accounts.phantom, accounts.voters_counted, accounts.overvotes) == (2, 2, 1)


def test_a_vote_cast_again_is_the_same_voters(tmp_path):
    again = attempt(0) | {"vote": mint(1, 0) + (1 << 40)}
    ballots = [ballot(0), ballot(0) | {"vote": again["vote"], "voter": "x"}]
    accounts = settled(tmp_path, [FIRST, again], ballots, recasts=1, votes_each=1)
    assert (accounts.voters, accounts.voters_counted, accounts.overvotes) == (1, 1, 1)
    assert accounts.counted_again == 1


def test_polls_without_the_rule_have_no_voters_in_their_accounts(tmp_path):
    ballots = [ballot(0, voter="a"), ballot(1, voter="a")]
    trial = make_trial(tmp_path / "t", [attempt(0), attempt(1)], ballots)
    accounts = settle(trial, trial.read_facts())
    assert (accounts.voters, accounts.voters_counted, accounts.overvotes) == (0, 0, 0)


def test_a_once_only_poll_without_its_rejections_proves_nothing(tmp_path):
    trial = make_trial(tmp_path / "t", [FIRST], [ballot(0)], rejections=[])
    trial.rejections.unlink()
    with pytest.raises(HistoryError, match=r"rejections\.parquet is missing"):
        settle(trial, trial.read_facts())
    write_parquet(pd.DataFrame({"vote": [1]}), trial.rejections)
    with pytest.raises(HistoryError, match=r"rejections\.parquet has no column poll, voter"):
        condemned(trial, trial.read_facts())


def test_from_elsewhere_the_names_say_whose_votes_they_are(tmp_path):
    ledger, ballots, rejections = (tmp_path / f"{name}.parquet" for name in "lbr")
    votes = {"vote": ["a1", "a2", "b1"], "outcome": [1, 1, 1], "choice": [1, 1, 2]}
    write_parquet(pd.DataFrame(votes), ledger)
    held = {"vote": ["a1"], "choice": [1], "poll": ["p"], "voter": ["a"]}
    write_parquet(pd.DataFrame(held), ballots)
    away = {"vote": ["a2", "b1"], "poll": ["p", "p"], "voter": ["a", "b"]}
    write_parquet(pd.DataFrame(away), rejections)
    elsewhere = facts(planned=None, once=True)
    accounts = settle_files(ledger, ballots, elsewhere, rejections)
    assert nonzero(accounts) == {"counted": 1, "rejected": 1, "lost": 1}
    assert (accounts.voters, accounts.voters_counted) == (0, 1)
    write_parquet(pd.DataFrame(votes | {"voter": ["a", "a", "b"]}), ledger)
    assert settle_files(ledger, ballots, elsewhere).voters == 2


votes = st.tuples(st.integers(1, 2), st.integers(0, 5))
histories = st.tuples(
    st.lists(st.tuples(votes, st.sampled_from(list(Outcome))), max_size=30),
    st.lists(votes, max_size=8),
    st.lists(votes, max_size=8),
    st.integers(1, 4),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_random_once_only_histories_settle_as_by_pencil_and_paper(tmp_path_factory, history):
    attempts, held, away, each = history
    told: defaultdict[int, set[Outcome]] = defaultdict(set)
    for (generator, sequence), outcome in attempts:
        told[mint(generator, sequence)].add(outcome)

    def voter(vote: int) -> str:
        return voter_of(vote, each, 2)

    ballots = {mint(g, n) for g, n in held}
    turned_away = {mint(g, n) for g, n in away}
    expected: Counter[str] = Counter()
    for vote, outcomes in told.items():
        if ACKNOWLEDGED in outcomes:
            excused = any(voter(vote) == voter(other) for other in ballots - {vote})
            kept = "rejected" if vote in turned_away and excused else "lost"
            expected["counted" if vote in ballots else kept] += 1
        elif UNKNOWN in outcomes:
            expected["recovered" if vote in ballots else "absent"] += 1
        else:
            expected["resurrected" if vote in ballots else "refused"] += 1
    expected["recovered"] += len(ballots - told.keys())
    of_voter = Counter(map(voter, ballots))
    accounts = settled(
        tmp_path_factory.mktemp("history"),
        [attempt(n, outcome, generator=g) for (g, n), outcome in attempts],
        [ballot(n, generator=g, voter=voter(mint(g, n))) for g, n in held],
        [rejection(n, generator=g) for g, n in away],
        planned={1: 6, 2: 6},
        votes_each=each,
    )
    for name in PARTS:
        assert getattr(accounts, name) == expected[name], name
    assert sum(getattr(accounts, name) for name in PARTS) == accounts.sent
    assert accounts.voters == len({voter(vote) for vote in told})
    assert accounts.voters_counted == len(of_voter)
    assert accounts.overvotes == sum(number > 1 for number in of_voter.values())


def test_an_overvote_fails_the_run_in_a_mode_that_promises_nothing(tmp_path):
    wipe = FaultRecord(kind="wipe", target="memcached", start_s=0.1, end_s=0.2, hit=True)
    changes = {"promises": False, "faults": (wipe,)}
    result = run_of(tmp_path, "classic", *BALLOTS, ballot(1), **changes)
    classic = result.modes["classic"]
    assert (classic.accounts.overvotes, classic.promise_kept, classic.rule_kept) == (1, None, False)
    assert (result.verdict.votes, result.once) == ("kept", True)
    assert result.exit_code == Exit.BROKEN_PROMISE


def test_an_overvote_breaks_the_promise_of_a_mode_that_promises(tmp_path):
    direct = run_of(tmp_path, "direct", *BALLOTS, ballot(3)).modes["direct"]
    assert (direct.promise_kept, direct.rule_kept) == (False, False)


def test_rejected_votes_break_nothing(tmp_path):
    result = run_of(tmp_path, "direct", *BALLOTS)
    direct = result.modes["direct"]
    assert (direct.accounts.rejected, direct.accounts.lost, direct.unexplained) == (2, 0, 0)
    assert (direct.verdict.votes, direct.promise_kept, direct.rule_kept) == ("kept", True, True)
    assert direct.verdict.lost_at_most_per_vote == 3 / 4
    assert result.exit_code == Exit.OK


def test_a_rule_broken_in_one_repetition_is_broken(tmp_path):
    ticket = run_of(tmp_path, "ticket", *BALLOTS, ballot(1), repeat=2).modes["ticket"]
    assert [trial.rule_kept for trial in ticket.trials] == [True, False]
    assert (ticket.rule_kept, ticket.accounts.overvotes, ticket.accounts.voters) == (False, 1, 4)


def test_a_rule_is_not_known_to_be_kept_while_votes_are_queued(tmp_path):
    classic = run_of(tmp_path, "classic", *BALLOTS, drained=False).modes["classic"]
    assert classic.rule_kept is None
    once, any_number = facts(once=True), facts()
    overvoted = Accounts(**dict.fromkeys(Accounts.__struct_fields__, 0) | {"overvotes": 1})
    assert rule_kept(facts(once=True, drained=False), overvoted) is False
    assert (rule_kept(once, overvoted), rule_kept(any_number, overvoted)) == (False, None)


def test_a_rejected_vote_tells_when_it_was_found_too_many(tmp_path):
    ledger = [attempt(n, planned_ms=n) for n in range(4)]
    journal = COLD + queued(0, 1, 10) + queued(2, 2, 20, vote=mint(1, 1), operation=2)
    journal += drain(20, 50, (2, 21), {1: (mint(1, 0), 12), 2: (mint(1, 1), 22)})
    trial = make_trial(
        tmp_path / "t", ledger, [ballot(0), ballot(2)], journal, [rejection(1)], votes_each=EACH
    )
    life = life_of(trial, mint(1, 1))
    assert life is not None
    assert life.fate == "rejected at the count: its voter is counted with vote 0001000000000000."
    (stored,) = [e for e in life.events if e.text == "set slot 2 → the vote was stored"]
    found = life.events[-1]
    assert "finds that its voter is counted with vote 0001000000000000: rejected" in found.text
    assert (found.actor, found.mark, stored.mark) == ("flusher 900/0", "life", "life")
    assert all(event.mark != "fatal" for event in life.events)
    counted, pending = life_of(trial, mint(1, 0)), life_of(trial, mint(1, 3))
    assert counted is not None
    assert counted.fate.startswith("counted")
    assert pending is not None
    assert pending.fate.startswith("pending")  # in no table, although its voter is counted


def test_a_vote_refused_at_the_door_says_with_which_its_voter_is_counted(tmp_path):
    ledger = [attempt(0), attempt(1, REFUSED), attempt(2, REFUSED)]
    voters_key = {"key": KeyKind.VOTER, "operation": 7}
    journal = [
        command(Add, begin=2, status=Status.EXISTS, vote=mint(1, 1), **voters_key),
        command(Get, begin=2.2, vote=mint(1, 0), **voters_key),
    ]
    trial = make_trial(tmp_path / "t", ledger, [ballot(0)], journal, rejections=[], votes_each=EACH)
    lives = [life for n in (1, 2) if (life := life_of(trial, mint(1, n)))]
    assert [event.text for event in lives[0].events] == [
        "the vote is due", "sends it", "is told no",
        "add voter's key → something is there", "get voter's key → another vote was in it",
    ]  # fmt: skip
    assert [life.fate for life in lives] == [
        "not counted, and nobody had promised it: its voter is counted with vote 0001000000000000.",
        "not counted, and nobody had promised it.",
    ]


def invoke(*arguments: object) -> tuple[int, str]:
    outcome = CliRunner().invoke(audit, [str(a) for a in arguments], standalone_mode=False)
    if outcome.exception:
        raise outcome.exception
    return outcome.return_value, outcome.output


def test_the_verb_audits_a_once_only_poll_from_elsewhere(tmp_path):
    def files(*ballots) -> list[object]:
        trial = make_trial(
            tmp_path / str(len(ballots)), VOTES, ballots,
            rejections=[rejection(1, voter="voter-0"), rejection(3, voter="voter-2")],
        )  # fmt: skip
        return [
            "--ledger", trial.ledger, "--ballots", trial.ballots, "--rejections", trial.rejections,
        ]  # fmt: skip

    code, output = invoke(*files(*BALLOTS))
    assert code == Exit.OK
    assert "overvotes" in output
    given = files(*BALLOTS, ballot(3, voter="voter-0"))
    code, output = invoke(*given)
    assert code == Exit.BROKEN_PROMISE
    assert "Voters counted more than once: 1." in output
    code, output = invoke(*given, "--json")
    assert (code, msgspec.json.decode(output)["rule_kept"]) == (Exit.BROKEN_PROMISE, False)
    given = files()  # none
    assert "overvotes" not in invoke(*given[:4])[1]
    with pytest.raises(PlanError, match=r"--rejections .* has no column poll, voter"):
        invoke(*given[:5], given[1])
    with pytest.raises(PlanError, match="give a run folder"):
        invoke("x", *given[4:])
