"""Figures of a trial: latencies, rates, and whether the measurement is sound.

Everything is read from the histories; nothing here judges the votes (see `harness.audit`).
"""
