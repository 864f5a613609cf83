"""What the tests of several commands share."""

from collections.abc import Callable

import pytest


@pytest.fixture
def refusal(run_script) -> Callable[..., str]:
    """Run a command that refuses what it is told: its one line, but for warnings."""

    def run(*args) -> str:
        code, _, said = run_script(*args)
        assert code == 1
        [line] = [line for line in said.splitlines() if not line.startswith('warning: ')]
        assert line.startswith('error: ')
        return line

    return run
