"""The one error that a person is meant to read."""


class UserError(Exception):
    """Something the user can mend. The text is one line: what is wrong, and what to do about it.

    Command lines and nodes print the text without a traceback and exit with a status that is not 0.
    """


def first_line(error: BaseException) -> str:
    """What an error of a library says, as one line: its first, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
