"""The one exception that users are meant to read: a sentence that names the thing, the value and the remedy."""


class CxrError(Exception):
    """Something the user can mend; the outermost entry prints its text alone and exits with a code that is not 0."""
