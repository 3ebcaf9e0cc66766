"""Writes tests/assets/format-N.db: a study of 4 trials in the format that this manyfit writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from support import replay, replay_file

from search.storage.schema import FORMAT

with tempfile.TemporaryDirectory() as folder:
    file = replay_file(Path(folder), study__trials=4, study__epochs=3)
    replay(file)
    Path(__file__).with_name(f"format-{FORMAT}.db").write_bytes(file.storage.read_bytes())
