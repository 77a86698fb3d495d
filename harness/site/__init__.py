"""The reference vote server's HTTP side: what a voter says to a mode, and what it is told.

`votes` is the hot path and reads first; `server` is the processes around it, and `people` the same
site as pages. How a vote travels once it is taken in is the mode's business, not ours.
"""
