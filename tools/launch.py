"""torchrun for tools/dist_train.sh: its processes say what ended them, and it adds no traceback."""

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    try:
        main()
    except ChildFailedError:
        sys.exit(1)
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
