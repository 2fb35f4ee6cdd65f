"""The one exception that users are meant to read: a sentence that names the thing, the value and the remedy."""


class CxrError(Exception):
    """An error that the user can fix; the outermost entry prints its text alone and exits with a code that is not 0."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text without its full stop, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
