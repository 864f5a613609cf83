"""The third tab: the course of training runs."""

from pathlib import Path

import gradio as gr
from matplotlib.figure import Figure

from ..errors import InputError
from ..io.images import decode_image
from ..plotting.runs import find_grids, plot_runs
from .events import QUIET, readable
from .models import Shelf

SECONDS = 10
MAX_SHOWN = 24  # sample grids of a run
MAX_RUNS = 8


class RunsTab:
    """The tab, laid out within a Blocks.

    Args:
        shelf: Finds the runs.

    Attributes:
        runs: The component of the runs.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        found = [*shelf.runs()]
        with gr.Row():
            self.runs = gr.Dropdown(
                found,
                value=found[:1],
                multiselect=True,
                max_choices=MAX_RUNS,
                label='Training runs',
                allow_custom_value=True,
                scale=4,
            )
            follow = gr.Checkbox(False, label=f'Look again every {SECONDS} seconds')
            show = gr.Button('Show', variant='primary', elem_id='show_run')
        curves = gr.Plot(label='Course', show_label=False, format='png', elem_id='curves')
        gr.Markdown('Samples, from the same noise each time:')
        grids = gr.Gallery(
            label='Samples',
            show_label=False,
            columns=4,
            object_fit='contain',
            format='png',
            height=520,
            show_share_button=False,
            interactive=False,
            elem_id='grids',
        )
        timer = gr.Timer(SECONDS, active=False)
        follow.change(lambda on: gr.Timer(active=on), follow, timer, **QUIET)
        look = dict(fn=readable(self.show), inputs=self.runs, outputs=[curves, grids])
        show.click(**look, api_name='show_run')
        timer.tick(**look, **QUIET)

    def show(self, runs: list[str]) -> tuple[Figure, list]:
        """Loss curves of runs, and their sample grids.

        Raises:
            InputError: None was chosen, or there is no such run.
        """
        if not runs:
            raise InputError('Choose a training run.')
        folders = {name: self._shelf.find_run(name) for name in runs}
        figure = plot_runs([*folders.values()], with_grids=False, names=[*folders])
        grids = [
            (decode_image(path), _caption(name, iteration, len(folders)))
            for name, folder in folders.items()
            for iteration, path in find_grids(folder, MAX_SHOWN)
        ]
        return figure, grids


def _caption(name: str, iteration: int, num_runs: int) -> str:
    return f'iteration {iteration}' if num_runs == 1 else f'{Path(name).name}: {iteration}'
