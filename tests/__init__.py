"""The tests of fnn, in folders as in `fnn/`; `helpers/` holds what several of them use."""

import pytest

pytest.register_assert_rewrite("tests.helpers")  # so that their errors show the values
