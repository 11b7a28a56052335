"""The exit codes of the command line."""

DONE = 0
FAILED = 1
USAGE = 2
REFUSED = 3
"""The command would change something, and nobody said yes."""
NOT_FOUND = 4
"""The dataset, version or tag does not exist."""
ANSWER_IS_NO = 10
"""The command ran, and its answer is "no": there are differences or problems."""
INTERRUPTED = 130
SIGNAL = 128
"""A signal has ended the command: this number, plus that of the signal."""
