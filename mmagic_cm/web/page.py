"""The page: a model above, three tabs below."""

import gradio as gr

from ..checkpoints import RELEASED
from ..errors import InputError
from ..models.consistency_model import PRECISIONS
from .edit_tab import EditTab
from .events import MAX_WAITING, QUIET, Listeners, readable, said
from .gate import Page
from .generate_tab import GenerateTab
from .models import OWN, Shelf
from .outputs import HOUR, Outputs
from .runs_tab import RunsTab

TITLE = 'Consistency models'
CSS = '.pixels img {image-rendering: pixelated}'
# Fonts of the system: nothing is fetched from elsewhere.
THEME = gr.themes.Default(font=gr.themes.Font('sans-serif'), font_mono=gr.themes.Font('monospace'))


def build_page(shelf: Shelf, outputs: Outputs, listeners: Listeners) -> Page:
    """The page, ready to be launched; see :func:`~mmagic_cm.web.server.serve`."""
    with Page(
        title=TITLE,
        theme=THEME,
        css=CSS,
        analytics_enabled=False,
        delete_cache=(HOUR, HOUR),
    ) as page:
        gr.Markdown(f'# {TITLE}')
        names = _names(shelf)
        with gr.Row():
            checkpoint = gr.Dropdown(
                names,
                value=names[0][1],
                allow_custom_value=True,
                label='Checkpoint',
                scale=3,
                elem_id='checkpoint',
            )
            config = gr.Dropdown(
                [OWN, *shelf.configs()], value=OWN, allow_custom_value=True, label='Config', scale=3
            )
            precision = gr.Dropdown([*PRECISIONS], value='fp32', label='Precision', scale=1)
            again = gr.Button('Look for new ones', size='sm', scale=1)
        about = gr.Markdown(elem_id='about')
        chooser = [checkpoint, config, precision]
        with gr.Tab('Generate', id='generate', elem_id='tab_generate'):
            generate = GenerateTab(shelf, outputs, chooser, listeners)
        with gr.Tab('Edit', id='edit'):
            edit = EditTab(shelf, outputs, chooser, generate.drawn, listeners)
        with gr.Tab('Training runs', id='runs'):
            runs = RunsTab(shelf)

        def describe(checkpoint: str, config: str) -> list:
            try:
                classes = shelf.class_names(checkpoint, config)
            except InputError as error:  # of a model that nobody has asked for yet
                gr.Warning(said(error))
                classes = None
            choices = gr.Dropdown(choices=classes or [], value=[], visible=classes is not None)
            return [choices, choices, shelf.about(checkpoint)]

        def look(checkpoint: str) -> list:
            names, found = _names(shelf), [*shelf.runs()]
            if checkpoint not in [name for _, name in names]:
                checkpoint = names[0][1]
            return [
                gr.Dropdown(choices=names, value=checkpoint),
                gr.Dropdown(choices=[OWN, *shelf.configs()]),
                gr.Dropdown(choices=found),
            ]

        described = [generate.classes, edit.classes, about]
        chosen = [checkpoint, config]
        lists = [checkpoint, config, runs.runs]
        for event in (page.load, again.click):
            event(readable(look), checkpoint, lists, **QUIET).then(
                readable(describe), chosen, described, **QUIET
            )
        for component in chosen:
            component.input(readable(describe), chosen, described, **QUIET)
    # Nothing goes past the queue.
    return page.queue(api_open=False, max_size=MAX_WAITING, default_concurrency_limit=1)


def _names(shelf: Shelf) -> list[tuple[str, str]]:
    """What the list of checkpoints shows, and the name that it stands for."""
    return [
        (f'{name} (not downloaded)' if name in RELEASED and not path.is_file() else name, name)
        for name, path in shelf.checkpoints().items()
    ]
