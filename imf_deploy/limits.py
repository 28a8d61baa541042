"""Limits on the contents of files from outside, each stated once; docs/reliability.md lists them.

Nothing is imported.
"""

LARGEST_NUMBER = 2**63 - 1
"""Maximum absolute value of numbers in records and reports: seeds have 64 bits, measurements are smaller."""
LONGEST = 1000
"""Maximum number of characters of texts and of entries of lists in recorded settings."""
LARGEST_SIDE = 4096
"""Maximum side in pixels of a network's input and feature maps; a batch of two images takes 400 MB."""
MOST_CLASSES = 100_000
"""Maximum number of classes, more than in any public data set."""
MOST_CHANNELS = 16_384
"""Maximum number of channels of a block of a network."""
