"""`python -m harness.cli`: the command `pollstorm`, where it is not on the path."""

from harness.cli import main

main()
