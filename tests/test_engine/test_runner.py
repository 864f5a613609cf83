"""The Runner that says what of the config it was building."""

import threading
import uuid
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmagic_cm.apis import load_config
from mmagic_cm.engine import Runner

LEAF = Path(__file__).parents[2] / 'configs/consistency_models/edm_1xb96-digits-8x8.py'


@pytest.mark.parametrize('option', [{'log_level': 'LOUD'}, {'visualizer.vis_backend': 1}])
def test_other_threads_go_on_where_building_fails(tmp_path, option):
    """MMEngine keeps its lock then, for which each lookup in a registry waits."""
    cfg = load_config(LEAF)
    cfg.merge_from_dict(dict(option, work_dir=str(tmp_path), experiment_name=uuid.uuid4().hex))
    with pytest.raises((KeyError, TypeError)):
        Runner.from_cfg(cfg)
    done = threading.Event()
    look = lambda: MMLogger.get_current_instance() and done.set()  # noqa: E731
    threading.Thread(target=look, daemon=True).start()
    assert done.wait(10)
