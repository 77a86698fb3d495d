"""The ways a vote can travel to the database, one file each, found by entry point.

`mode` is what every mode has to offer. Nearly all of that follows from a protocol: `protocol_mode`
makes a mode of one, with `voting` at work in the site, `draining` in a flusher, and the `hands` of
either. A mode of your own needs no change here, only an entry point in the group `pollstorm.modes`.
"""
