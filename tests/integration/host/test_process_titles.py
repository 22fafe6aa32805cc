"""A title shows in /proc, where ps reads it. In a process of its own: pytest keeps its title."""

import subprocess
import sys


def test_the_title_shows():
    code = (
        "from gemflowd.host.titles import set_title; set_title('gemflowd: worker 3 [command #42]');"
        "print(open('/proc/self/cmdline').read().rstrip(chr(0)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "gemflowd: worker 3 [command #42]"
