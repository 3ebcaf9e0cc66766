"""Ends dashboards by a signal while pages are asked for, and prints how many ended cleanly."""

import http.client
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from search.views.dashboard import application, serve

database, tries = Path(sys.argv[1]), int(sys.argv[2])
application(database)
ended = 0


def ask(port):
    try:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/static/nothing.js")
            connection.getresponse().read()
            connection.close()
    except OSError:
        pass


for _ in range(tries):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            serve(database, 0, on_ready=lambda url: os.write(write, url.split(":")[2].split("/")[0].encode()))
        except BaseException:
            os._exit(1)
        os._exit(0)
    port = int(os.read(read, 99))
    clients = [threading.Thread(target=ask, args=(port,), daemon=True) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(random.uniform(0, 0.2))
    os.kill(child, signal.SIGTERM)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            ended += status == 0
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    for client in clients:
        client.join()
    os.close(read), os.close(write)
print(ended, "ended")
