"""The ways a vote can travel to the database, one file each, found by entry point.

`mode` is what every mode has to offer; a mode of your own needs no change here, only an entry
point in the group `pollstorm.modes`.
"""
