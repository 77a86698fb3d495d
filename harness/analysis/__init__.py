"""Figures of trials: latencies, rates, backlogs, and whether the measurement is sound; how rates
grow with processes (`scalability`), where one thing begins to win over another (`crossing`), and
what pairs of slices prove (`duet`).

Everything is read from the histories; nothing here judges the votes (see `harness.audit`).
"""
