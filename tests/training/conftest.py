"""The command lines inside the test process, as the end-to-end tests have them."""

from tests.end_to_end.conftest import environment, here, phantoms, train  # noqa: F401  # fixtures
