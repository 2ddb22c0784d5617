"""One jail for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from guerdon.jail import Jail


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    with Jail(("numpy", "tests.jail.jobs")) as found:
        yield found
