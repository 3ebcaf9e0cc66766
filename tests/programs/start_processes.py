"""Starts processes in every way that a model may, and prints their ids."""

import os
import subprocess
import sys

code = "import time; time.sleep(600)"
started = [subprocess.Popen([sys.executable, "-c", code])]
started.append(subprocess.Popen([sys.executable, "-c", code], start_new_session=True))
started.append(subprocess.Popen([sys.executable, "-c", code], start_new_session=True, env={}))
print(*(child.pid for child in started))
# A daemon: forked twice, its parent gone.
read, write = os.pipe()
if not os.fork():
    os.setsid()
    if pid := os.fork():
        os.write(write, str(pid).encode())
        os._exit(0)
    os.closerange(0, 3)
    os.execv(sys.executable, [sys.executable, "-c", code])
print(os.read(read, 99).decode(), flush=True)
sys.stdin.read()
