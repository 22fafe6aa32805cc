"""Times that both clients and the command line start from."""

from typing import Final

#: Seconds for one try of a request.
REPLY_TIMEOUT: Final = 10.0
#: Seconds to wait for a daemon that answered before and went away.
RESTART_PATIENCE: Final = 30.0
