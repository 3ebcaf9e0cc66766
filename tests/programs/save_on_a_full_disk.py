"""Saves checkpoints where no file may be larger than 50 kB."""

import resource
import signal
import sys
from pathlib import Path

import numpy as np

from search.engines.checkpoints import Checkpoints
from search.trials.events import Assignment, Member
from search.trials.files import StudyFiles

of_study = StudyFiles(Path(sys.argv[1]) / "study.db", "study")
files = Checkpoints(of_study)
training = Assignment(Member(1), {}, epochs=9, seed=0, done=9)
files.save([(training, 1, {"a": np.zeros(10)})])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
files.save([(training, 2, {"a": np.zeros(100_000)})])
print(files.take_error())
print(files.keep(of_study.weights(Member(1)), {"a": np.zeros(100_000)}, {}))
print(files.load(training)[0], sorted(path.name for path in of_study.folder.rglob("*")))
