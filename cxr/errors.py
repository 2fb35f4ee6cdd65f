"""The exception for errors that users can fix, and words of messages."""


class CxrError(Exception):
    """An error that the user can fix: one sentence with the cause, the value and the remedy.

    Programs print its text without a traceback and exit with code 1.
    """


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as `1 image` and `1,200 images`; `plural` is for nouns that take no s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's text without its final full stop, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
