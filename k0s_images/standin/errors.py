"""The one kind of error that ends a command with a message instead of a traceback."""


class Fatal(Exception):
    """The command cannot go on; the message is printed as `Error: ...` and the exit code is 1."""
