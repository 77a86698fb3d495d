"""Capacity planning: how much each mode can take within its objectives, and how to size it.

`search` is the strategy, `stand` plays and judges one rate, `study` puts modes, budget and parts
together. Everything is measured by whole trials, with the audit of every run.
"""
