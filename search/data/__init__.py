"""Data sources -> arrays, splits and a fingerprint. Bad data raise an error here, before the first trial.

`check` is for the coordinator and takes milliseconds; `load` is for the worker. Importing this package or checking a
source does not import keras, scikit-learn, pandas, Pillow or numpy.
"""

from search.data.dataset import Data, DataInfo, OutputInfo, Raw
from search.data.loading import check, load

__all__ = ["Data", "DataInfo", "OutputInfo", "Raw", "check", "load"]
