"""The documentation names only files, verbs, options and Make targets that exist."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from harness.cli import VERBS, pollstorm
from harness.cli.options import changes_of
from harness.cli.run import plan_of
from harness.errors import PlanError
from harness.plan import known_scenarios

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "reports/README.md", *DOCS]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FENCED = re.compile(r"^(```+).*?\n(.*?)^\1`*$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)(?:    .*\n)+")
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:")
# What stands before the program: a prompt, a path, variables.
CALL = re.compile(r"^(?:\$ +)?(?:\w+=\S* +)*(?:\S+/)?(pollstorm|make)(?: (.*))?$")


def code(text: str) -> Iterator[str]:
    """Every line of code blocks, continued lines joined, and every piece of code in a sentence."""
    for block in FENCED.findall(text):
        yield from block[1].replace("\\\n", " ").splitlines()
    rest = FENCED.sub("", text)
    for block in INDENTED.findall(rest):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
    for piece in INLINE.findall(INDENTED.sub("", rest)):
        yield " ".join(piece.split())


def calls(text: str, program: str) -> list[list[str]]:
    """The arguments of each call of the program in the text's code."""
    found = [CALL.match(line) for line in code(text)]
    return [
        _own_words(match[2] or "") for match in found if match is not None and match[1] == program
    ]


def unknown_in_call(arguments: list[str]) -> str | None:
    """What of a call of `pollstorm` does not exist; None if all of it does."""
    command: click.Command = pollstorm
    context = click.Context(pollstorm, info_name="pollstorm", **pollstorm.context_settings)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        verb, *arguments = arguments
        found = command.get_command(context, verb)
        if found is None:
            return f"no verb {verb}"
        command, context = found, click.Context(found, info_name=verb, parent=context)
    return _unknown_option(command, context, arguments)


def _unknown_option(
    command: click.Command, context: click.Context, arguments: list[str]
) -> str | None:
    try:
        command.make_parser(context).parse_args(list(arguments))
        if context.info_name in ("run", "simulate") and {*arguments} & {*known_scenarios()}:
            _plan(command.make_context(context.info_name, list(arguments)).params)
    except click.UsageError as error:
        return error.format_message()
    except PlanError as error:
        return str(error)
    return None


def _plan(flags: dict[str, Any]) -> None:
    """Raises PlanError if there is none with these flags; a file of traffic is not read."""
    if flags["traffic"] is None:
        plan_of(flags["scenario"], flags, changes_of(flags, {"queue.queues": flags.get("shards")}))


def _own_words(line: str) -> list[str]:
    """The words up to a comment, a pipe or the next command; brackets of a synopsis dropped."""
    words = []
    for word in shlex.split(line.replace("[", "").replace("]", ""), comments=True):
        if word in {"|", "&&", "||", ";", "&", ">", "2>", "<"}:
            break
        words.append(word.removesuffix(";"))
    return words


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@every_page
def test_links_lead_to_files_that_exist(page: Path) -> None:
    paths = [link.partition("#")[0] for link in links(page)]
    assert [path for path in paths if not (page.parent / path).exists()] == []


@every_page
def test_links_into_a_page_lead_to_a_heading_there(page: Path) -> None:
    split = [link.partition("#") for link in links(page)]
    aims = [(page.parent / path if path else page, anchor) for path, _, anchor in split if anchor]
    assert [aim for aim in aims if aim[1] not in anchors(aim[0])] == []


@every_page
def test_commands_have_the_verbs_and_options_that_the_page_gives_them(page: Path) -> None:
    found = {" ".join(call): unknown_in_call(call) for call in calls(page.read_text(), "pollstorm")}
    assert {call: unknown for call, unknown in found.items() if unknown} == {}


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_verbs_help_are_valid(verb: str) -> None:
    command = pollstorm.get_command(click.Context(pollstorm), verb)
    assert command is not None
    examples = re.findall(
        r"^  pollstorm (.*)$", (command.epilog or "").replace("\\\n", " "), re.MULTILINE
    )
    found = {example: unknown_in_call(_own_words(example)) for example in examples}
    assert {example: unknown for example, unknown in found.items() if unknown} == {}


@every_page
def test_make_targets_that_the_page_names_exist(page: Path) -> None:
    named = {
        word
        for call in calls(page.read_text(), "make")
        for word in call
        if "=" not in word and not word.startswith("-")
    }
    assert named - make_targets() == set()


def test_the_index_lists_every_page_of_the_documentation() -> None:
    index = (ROOT / "docs/README.md").read_text()
    assert [page.name for page in DOCS if page.name != "README.md" and page.name not in index] == []


def test_the_design_names_files_that_exist_and_the_layers_of_the_contract() -> None:
    page = (ROOT / "docs/design.md").read_text()
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.pl|/))`", page))
    assert "site/votes.py" in named
    places = (ROOT, ROOT / "harness", ROOT / "docs")
    assert {path for path in named if not any((at / path).exists() for at in places)} == set()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = [c for c in settings["tool"]["importlinter"]["contracts"] if "layers" in c]
    table = page.partition("## Layers")[2].partition("Two more contracts")[0]
    rows = [
        re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    ]
    assert rows == [re.findall(r"\w+", layer) for layer in contract["layers"]]


def test_the_changelog_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


@pytest.mark.parametrize(
    "line",
    [
        "    $ pollstorm rum controversial-poll",
        "```\n.venv/bin/pollstorm run controversial-poll \\\n    --mode direct\n```",
        "`pollstorm audit reports/latest --jsn`",
        "`pollstorm --verison`",
        "`pollstorm up --mode`",
        "`pollstorm polls crate town-hall`",
        "`pollstorm polls close town-hall --databse URL`",
        "`pollstorm simulate controversial-poll --workers 100000`",
    ],
)
def test_a_wrong_command_is_found_however_it_is_written(line: str) -> None:
    (call,) = calls(f"Text.\n\n{line}\n\nText.\n", "pollstorm")
    assert unknown_in_call(call)


@pytest.mark.parametrize(
    "line",
    [
        "`pollstorm`",
        "`pollstorm run SCENARIO [--repeat N] [--slo 'p99<250ms']`",
        "```console\n$ pollstorm doctor | grep -v ^ok   # what is amiss\n```",
        "`pollstorm report\nBEFORE AFTER --out DIR`",
        "`pollstorm run -h`",
        "`pollstorm polls close town-hall --database URL`",
    ],
)
def test_a_right_command_is_left_alone_however_it_is_written(line: str) -> None:
    (call,) = calls(f"Text.\n\n{line}\n\nText.\n", "pollstorm")
    assert unknown_in_call(call) is None


def links(page: Path) -> list[str]:
    """Where the page leads to within the project."""
    found = [first or second or third for first, second, third in LINK.findall(_prose(page))]
    return [link for link in found if not ELSEWHERE.match(link)]


def anchors(page: Path) -> set[str]:
    """What stands for the page's headings in a link, as GitHub has it."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def _prose(page: Path) -> str:
    return INLINE.sub("", FENCED.sub("", page.read_text()))
