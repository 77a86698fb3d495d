"""`python -m bench.service_times RUN`: make a run's service times those that come with pollstorm.

RUN should be of controversial-poll in `direct`, `classic` and `ticket`, on an otherwise idle
machine. What it cannot tell stays as it was.
"""

import sys
from pathlib import Path

import msgspec

from harness.errors import Exit, PollstormError
from harness.run_folder import RunFolder, write_atomically
from harness.simulation.calibration import calibrate
from harness.simulation.service_times import SHIPPED


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m bench.service_times RUN", file=sys.stderr)
        return Exit.USAGE
    try:
        times = calibrate(RunFolder.open(Path(arguments[0])))
    except PollstormError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    write_atomically(SHIPPED, msgspec.json.format(msgspec.json.encode(times)) + b"\n")
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
