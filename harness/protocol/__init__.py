"""The memcached algorithms, as generators: no socket, no clock, no random source.

Standard library only. `commands` is the vocabulary, `drive` runs a machine over anything that
executes commands, and each further file is one protocol that opens with its theory of operation.
"""
