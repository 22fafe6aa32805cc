"""Tells when somebody sets the wall clock, without asking again and again: a timer that the kernel cancels then.

timerfd_create(2), TFD_TIMER_CANCEL_ON_SET. Python has it from 3.13 on (`os.timerfd_create`); until then through libc.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_CLOCK_REALTIME: Final = 0
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_ABSOLUTE_AND_CANCEL_ON_SET: Final = 1 | 2
#: A moment that does not come: 2200-01-01. The timer is there to be cancelled.
_NEVER: Final = 7_258_118_400


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class ClockWatch:
    """A descriptor that becomes readable when the wall clock was set.

    Raises:
        OSError: the kernel has no such timer.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.timerfd_create(_CLOCK_REALTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._arm()

    def fileno(self) -> int:
        return self._descriptor

    def was_set(self) -> bool:
        """Whether the clock was set since the last call."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            self._arm()
            return True
        return False

    def close(self) -> None:
        os.close(self._descriptor)

    def _arm(self) -> None:
        spec = _Spec(0, 0, _NEVER, 0)
        # ECANCELED here says that the clock was set between the last reading and now: the timer is armed all the same.
        if self._libc.timerfd_settime(self._descriptor, _ABSOLUTE_AND_CANCEL_ON_SET, ctypes.byref(spec), None) < 0:
            number = ctypes.get_errno()
            if number != errno.ECANCELED:
                raise OSError(number, "timerfd_settime")
