"""`pollstorm polls`: on a real database, and what is refused before one is asked."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from harness.cache import connect
from harness.cli import pollstorm
from harness.cli.poll_file import read_polls
from harness.cli.polls import show
from harness.database import schema
from harness.database.ballots import Ballots
from harness.database.link import Link
from harness.database.polls import Standing, find_poll
from harness.errors import Exit, PlanError, ServiceError
from harness.modes.polls import SEPARATOR, PollBook, polls_in
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer
from harness.vote import Poll, Vote, mint

NOWHERE = "mysql://nobody@127.0.0.1:1/nothing"
ORANGE = Poll("town-hall", "Orange?", ("Yes", "No"))
FLAGS = ["--question", "Orange?", "--choice", "Yes", "--choice", "No"]


def polls(*arguments: str, database: str = NOWHERE) -> str:
    """What `pollstorm polls` prints; raises what ends it."""
    call = ["polls", *arguments, "--database", database]
    answer = CliRunner().invoke(pollstorm, call, standalone_mode=False)
    if answer.exception:
        raise answer.exception
    assert answer.return_value == Exit.OK
    return answer.output


def refusal(*arguments: str, database: str = NOWHERE) -> str:
    with pytest.raises(PlanError) as caught:
        polls(*arguments, database=database)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def database(mariadb: MariadbServer) -> Iterator[str]:
    """Without our tables at first."""
    schema.drop(mariadb.url)
    yield mariadb.url
    schema.drop(mariadb.url)


def cast(database: str, *votes: Vote) -> None:
    with closing(Ballots(database, 5.0, None)) as ballots:
        for vote in votes:
            ballots.insert(vote)


def found(database: str, name: str) -> Poll | None:
    with closing(Link(database, 5.0)) as link:
        return find_poll(link, name)


GOOD = '[[polls]]\nname = "a"\nquestion = "A?"\nchoices = ["x", "y"]\n'
BAD_FILES = {
    "no TOML": ("[[polls", "is no TOML"),
    "no polls": ("", "has no polls; write a table [[polls]]"),
    "an empty list": ("polls = []", "has no polls"),
    "polls of another kind": ("polls = 3", "has no polls"),
    "a number for a poll": ("polls = [3]", "poll 1 is no table"),
    "another table": ("[[poll]]\nname = 'a'", "no key 'poll'; did you mean 'polls'?"),
    "an unknown key": (GOOD + "onse = true", "poll 1 ('a'): no key 'onse'; did you mean 'once'?"),
    "no question": ("[[polls]]\nname = 'a'\nchoices = ['x', 'y']", "poll 1 ('a') has no question"),
    "no name": ("[[polls]]\nquestion = 'A?'", "poll 1 has no name"),
    "once as text": (GOOD + "once = 'yes'", "poll 1 ('a'): once: expected `bool`, got `str`"),
    "a number for a choice": (GOOD.replace('"y"', "3"), "poll 1 ('a'): choices[1]: expected `str`"),
    "one choice": (GOOD.replace(', "y"', ""), "poll 1 ('a'): choices needs 2 to 100 entries"),
    "a choice twice": (GOOD.replace('"y"', '"x"'), "poll 1 ('a'): choices has the same text twice"),
    "an empty question": (GOOD.replace("A?", " "), "poll 1 ('a'): question has an empty text"),
    "a long choice": (GOOD.replace('"y"', f'"{"y" * 1001}"'), "choices has a text of 1001"),
    "a line break": (GOOD.replace("A?", r"A\nB?"), "question has a line break"),
    "a bad name": (GOOD.replace('"a"', '"Town Hall"'), "name 'Town Hall' must be like"),
    "a name twice": (GOOD + GOOD, "polls 1 and 2 are both called 'a'; give one of them another"),
    "too many": (GOOD * 1001, "has 1001 polls"),
}


@pytest.mark.parametrize(("text", "says"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_before_the_database_is_asked(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "polls.toml"
    path.write_text(text)
    message = refusal("import", str(path))
    assert message.startswith(str(path))
    assert says in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refusal("import", "nowhere.toml") == "nowhere.toml: No such file or directory"
    path = tmp_path / "latin.toml"
    path.write_bytes(GOOD.replace("A?", "Müller?").encode("latin-1"))
    assert "is no TOML" in refusal("import", str(path))


def test_emoji_and_scripts_of_all_kinds_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "polls.toml"
    path.write_text('[[polls]]\nname = "a"\nquestion = "वोट?"\nchoices = ["👩‍🚒", "é <b>"]\n')
    assert read_polls(path) == [Poll("a", "वोट?", ("👩‍🚒", "é <b>"))]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["town hall", *FLAGS], "flags: name 'town hall' must be like"),
        (["a", "--question", "A?", "--choice", "x"], "flags: choices needs 2 to 100 entries"),
        (["a", *FLAGS, "--choice", "Yes"], "flags: choices has the same text twice"),
        (["a", "--question", "A\udcff?", *FLAGS[2:]], "flags: question has a line break or"),
    ],
)
def test_flags_that_make_no_poll_are_refused(arguments: list[str], says: str) -> None:
    assert says in refusal("create", *arguments)


@pytest.mark.parametrize("verb", [["list"], ["close", "a"], ["create", "a", *FLAGS]])
def test_a_database_that_does_not_answer_is_one_line(verb: list[str]) -> None:
    with pytest.raises(ServiceError, match="the database of --database: Can't connect") as caught:
        polls(*verb)
    assert "\n" not in str(caught.value)


def test_the_database_is_required_and_may_stand_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = CliRunner().invoke(pollstorm, ["polls", "list"])
    assert "Missing option '--database'" in answer.output
    monkeypatch.setenv("POLLSTORM_DATABASE", NOWHERE)
    answer = CliRunner().invoke(pollstorm, ["polls", "list"], standalone_mode=False)
    assert isinstance(answer.exception, ServiceError)


@pytest.mark.services
def test_a_poll_is_created_once_and_replaced_only_if_asked(database: str) -> None:
    told = polls("create", "town-hall", *FLAGS, database=database)
    assert told == "created town-hall: 2 choices, any number of votes\n"
    assert found(database, "town-hall") == ORANGE
    again = ["create", "town-hall", "--question", "Blue?", "--choice", "A", "--choice", "B"]
    assert "already; use another name, or --replace" in refusal(*again, database=database)
    assert found(database, "town-hall") == ORANGE
    told = polls(*again, "--once", "--replace", database=database)
    assert told == "replaced town-hall: 2 choices, each voter once\n"
    assert found(database, "town-hall") == Poll("town-hall", "Blue?", ("A", "B"), once=True)


@pytest.mark.services
def test_what_ballots_were_cast_for_stays(database: str) -> None:
    schema.create(database, ORANGE)
    cast(database, Vote(mint(1, 1), "town-hall", 1, "v1"))
    others = ["create", "town-hall", "--question", "Orange?", "--choice", "No", "--choice", "Yes"]
    assert "has ballots" in refusal(*others, "--replace", database=database)
    stricter = ["create", "town-hall", *FLAGS, "--once", "--replace"]
    assert "has ballots" in refusal(*stricter, database=database)
    assert found(database, "town-hall") == ORANGE
    polls("create", "town-hall", "--question", "Or?", *FLAGS[2:], "--replace", database=database)
    assert found(database, "town-hall") == ORANGE._replace(question="Or?")


@pytest.mark.services
def test_a_file_is_imported_whole_or_not_at_all(database: str, tmp_path: Path) -> None:
    path = tmp_path / "polls.toml"
    path.write_text(GOOD + "once = true\n" + GOOD.replace('"a"', '"b"'))
    schema.create(database, Poll("b", "B?", ("1", "2")))
    assert refusal("import", str(path), database=database).startswith(
        f"{path}: there is a poll 'b'"
    )
    assert found(database, "a") is None
    told = polls("import", str(path), "--replace", database=database)
    assert told.splitlines() == [
        "created a: 2 choices, each voter once",
        "replaced b: 2 choices, any number of votes",
    ]
    assert found(database, "a") == Poll("a", "A?", ("x", "y"), once=True)
    assert found(database, "b") == Poll("b", "A?", ("x", "y"))


@pytest.mark.services
def test_a_closed_poll_is_listed_last_with_its_totals(database: str) -> None:
    assert "no polls yet" in polls("list", database=database)
    assert json.loads(polls("list", "--json", database=database)) == []
    missing = refusal("close", "a", database=database)
    assert missing == "no poll 'a' (`pollstorm polls list` shows all)"
    schema.create(database, ORANGE, Poll("b", "B?", ("1", "2")))
    votes = [Vote(mint(1, n), "town-hall", choice, "v") for n, choice in enumerate((1, 2, 2))]
    cast(database, *votes)
    assert "closed town-hall; a running site" in polls("close", "town-hall", database=database)
    assert polls("close", "town-hall", database=database) == "town-hall was closed before\n"
    assert "did you mean 'town-hall'?" in refusal("close", "town-hal", database=database)
    first, last = json.loads(polls("list", "--json", database=database))
    assert (first["poll"], first["state"], first["closed_at"]) == ("b", "open", None)
    assert (last["poll"], last["state"], last["total"]) == ("town-hall", "closed", 3)
    assert last["choices"][1] == {"choice": 2, "text": "No", "votes": 2}
    opened, closed = (datetime.fromisoformat(last[key]) for key in ("opened_at", "closed_at"))
    assert opened <= closed <= datetime.now(UTC)
    polls("create", "town-hall", *FLAGS, "--replace", database=database)
    assert found(database, "town-hall") == ORANGE._replace(closed=True)


@pytest.mark.services
def test_the_sites_memcached_forgets_what_was_changed(
    database: str, memcached: MemcachedServer
) -> None:
    memcached.wipe()
    schema.create(database, ORANGE)
    link = Link(database, 5.0)
    cached = polls_in(connect(memcached.address, "mine", separator=SEPARATOR))
    book = PollBook(link, cached, 2)
    assert book.find("town-hall") == ORANGE
    flags = ("--memcached", memcached.address, "--prefix", "mine")
    question = ("--question", "Or?", *FLAGS[2:])
    polls("create", "town-hall", *question, "--replace", *flags, database=database)
    assert cached.get("town-hall") is None
    assert PollBook(link, cached, 2).find("town-hall") == ORANGE._replace(question="Or?")
    told = polls("close", "town-hall", *flags, database=database)
    assert told == "closed town-hall; a running site notices within 2 s\n"
    assert cached.get("town-hall") is None
    link.close()
    cached.close()


def test_what_is_no_memcached_is_refused_before_anything_is_changed() -> None:
    told = refusal("close", "a", "--memcached", "somewhere")
    assert told == "--memcached: 'somewhere' is no host:port"


def test_a_terminal_shows_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime(2025, 3, 1)
    rows = [
        Standing(ORANGE._replace(question="[bold]Orange?"), now, None, (1200, 34)),
        Standing(Poll("b", "B?", ("1", "2"), once=True), now, now, (0, 0)),
    ]
    show(rows, Console(force_terminal=True, width=120, color_system=None))
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines if line.strip()]
    assert words[-2] == [
        "town-hall",
        "open",
        "any",
        "number",
        "1,234",
        *["[bold]Orange?", "Yes", "1,200,", "No", "34"],
    ]
    assert words[-1][:4] == ["b", "closed", "once", "0"]
