"""The command `pollstorm`: one file per verb. Here they are joined, and errors become one line."""

import importlib
import signal
import sys
from typing import Final

import click

from harness import __version__
from harness.errors import Exit, PollstormError

VERBS: Final = (
    "run",
    "up",
    "polls",
    "audit",
    "explain",
    "report",
    "explore",
    "replay",
    "simulate",
    "matrix",
    "capacity",
    "check",
    "worker",
    "doctor",
)


class Verbs(click.Group):
    """Imports a verb's module only when it is called, so that `--help` is quick."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        verb: click.Command = getattr(importlib.import_module(f"harness.cli.{name}"), name)
        return verb


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  pollstorm doctor
  pollstorm run controversial-poll
  pollstorm up --mode classic

Exit codes: 0 pass, 1 the harness failed, 2 usage or plan, 3 inconclusive,
99 a promise or threshold broken, 105 interrupted.""",
)
@click.version_option(__version__, prog_name="pollstorm")
def pollstorm() -> None:
    """What happens to the votes when the controversial poll goes on air."""


def main() -> None:
    """Entry point. Every expected failure is one line on stderr and an exit code."""
    if sys.platform != "linux":
        click.echo("pollstorm: runs on Linux only; elsewhere: docs/compose.md", err=True)
        sys.exit(Exit.USAGE)
    for number in (signal.SIGTERM, signal.SIGHUP):  # until a verb has its own way to end
        signal.signal(number, signal.default_int_handler)
    try:
        code = pollstorm.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(Exit.INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except PollstormError as error:
        click.echo(f"pollstorm: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("pollstorm: interrupted", err=True)
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(Exit.FAILED)  # whoever read our output has gone
    except OSError as error:  # a full disk, a folder that may not be written
        place = f": {error.filename}" if error.filename else ""
        click.echo(f"pollstorm: {error.strerror or error}{place}", err=True)
        sys.exit(Exit.FAILED)
    sys.exit(code if isinstance(code, int) else Exit.OK)
