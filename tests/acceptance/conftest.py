"""What every test of the running stack needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local import demo


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A busy machine gets more time than somebody who watches the demo."""
    with pytest.MonkeyPatch.context() as patch:
        for limit in ("PUBLISHED_WITHIN_SECONDS", "CHECKED_WITHIN_SECONDS"):
            patch.setattr(demo, limit, 600)
        yield
