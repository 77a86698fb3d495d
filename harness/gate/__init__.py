"""The performance gate: did this version become slower, or lossier, than that one?

`versions` has both on disk and `sites` has both running. `counts` compares what has no noise, by
way of `wire`; `duet` plays both beside each other; `check` puts modes and figures together.
Statistics are in `analysis.duet`.
"""
