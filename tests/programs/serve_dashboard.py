"""Serves a dashboard, and prints its address and when it has ended."""

import sys
from pathlib import Path

from search.views.dashboard import serve

serve(Path(sys.argv[1]), 0, study=sys.argv[2] or None, on_ready=lambda url: print(url, flush=True))
print("returned", flush=True)
