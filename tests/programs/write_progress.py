"""Prints more than a pipe holds to a stderr that nobody reads."""

import sys

from search.cli import standard_streams

standard_streams.guard()
for number in range(20000):
    print("progress that nobody reads, line", number, file=sys.stderr)
print("done")
