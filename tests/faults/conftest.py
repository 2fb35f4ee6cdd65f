"""The command lines inside the test process, as the end-to-end tests have them."""

from tests.end_to_end.conftest import ensemble, environment, here, no_pictures, phantoms, train  # noqa: F401  # fixtures
from tests.end_to_end.test_resume import kill, shelf, steps  # noqa: F401  # fixtures
