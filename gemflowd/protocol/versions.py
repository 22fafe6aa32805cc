"""Versions that go over the wire.

Change rule: a new optional field or a new operation keeps `PROTOCOL_VERSION`; anything that an older client
would misread raises it. `tests/golden` holds frames of every version that was ever released.
"""

from typing import Final

DAEMON_VERSION = "0.1.0"
PROTOCOL_VERSION: Final = 1
