"""Limits on what files from outside may hold, each stated once; docs/reliability.md lists them.

Light: nothing is imported.
"""

LARGEST_NUMBER = 2**63 - 1
"""Of numbers in records and reports, either way: seeds have 64 bits, and no measurement is larger."""
LONGEST = 1000
"""Of texts, in characters, and of lists in recorded settings."""
LARGEST_SIDE = 4096
"""Pixels of a side of a network's input and of its feature maps; a batch of two images takes 400 MB."""
MOST_CLASSES = 100_000
"""More than any public data set has."""
MOST_CHANNELS = 16_384
"""Of a block of a network."""
