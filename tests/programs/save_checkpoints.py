"""Saves three checkpoints of a member."""

import sys
from pathlib import Path

import numpy as np

from search.engines.checkpoints import Checkpoints
from search.trials.events import Assignment, Member
from search.trials.files import StudyFiles

files = Checkpoints(StudyFiles(Path(sys.argv[1]) / "study.db", "study"))
training = Assignment(Member(1), {}, epochs=99, seed=1)
for epoch in (1, 2, 3):
    files.save([(training, epoch, {"a": np.full(1000, epoch)})])
