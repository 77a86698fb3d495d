"""All protocols side by side: from one real writer process to 32, each voting as fast as it can.

The rounds are interleaved, and within a round the protocols with equally many writers follow one
another, so that they meet the same machine. What was measured is kept for the ladder's page.
"""

from typing import Final

from bench.figure import Figure, Measurement, Target, figure
from bench.ladder import MODES, WRITERS, keep_rates, summarise
from bench.writers import WritersResult, started_writers

ROUNDS: Final = 3  # with the starts, everything takes some four minutes
LASTS_S: Final = 1.5  # long enough for a lock's patience to end, and for seven drains
CROWD: Final = max(WRITERS)


def side_by_side() -> list[Figure]:
    settings = [(mode, writers) for writers in WRITERS for mode in MODES]
    results: dict[tuple[str, int], list[WritersResult]] = {each: [] for each in settings}
    with started_writers() as pool:
        for number in range(ROUNDS):
            for mode, writers in settings if number % 2 else reversed(settings):
                results[mode, writers].append(pool.measure(mode, writers, LASTS_S))
    keep_rates([summarise(results[each]) for each in settings], ROUNDS, LASTS_S)
    rounds = [
        (ticket.votes_per_s, classic.votes_per_s)
        for ticket, classic in zip(results["ticket", CROWD], results["classic", CROWD], strict=True)
    ]
    other = f"classic, {CROWD} writers"
    return [figure("ladder.ticket", "votes/s", other, rounds, Target("ratio", ">=", 6))]


MEASUREMENTS: Final = (Measurement(("ladder.ticket",), side_by_side),)
