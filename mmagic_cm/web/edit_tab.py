"""The second tab: edit a picture with the model."""

from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from ..datasets.digits import load_split
from ..editing import TASKS, edit_pictures
from ..errors import InputError
from ..io.images import save_image, save_npz
from ..sampling.loop import check_seed
from .events import QUIET, Jobs, Listeners, Stopped, Watch, readable
from .generate_tab import MAX_SEED, class_dropdown, result_parts
from .models import Shelf, labels_of
from .outputs import Outputs
from .painting import MASKS, SHOWN_SIZE, enlarge, from_editor, make_mask, shrink
from .sampling import parse_levels

MAX_CANDIDATES = 16
HELP = {
    'inpainting': 'Paint over what is to be filled; the rest stays exactly.',
    'colorization': 'Keeps the luminance, and draws colours. For models of colour pictures.',
    'super-resolution': 'Keeps the means of patches, and draws details.',
    'stroke': 'Turns a rough painting into a picture like those of the training.',
    'denoising': 'Removes noise, of the level that you give or that is estimated.',
    'interpolation': 'Walks to a second picture; without pictures, between two noises.',
}


def digits_to_pick() -> list[Image.Image]:
    """A test digit of each class."""
    images, labels = load_split('test')
    firsts = np.unique(labels, return_index=True)[1]
    return [Image.fromarray(image) for image in images[firsts, ..., 0]]


class EditTab:
    """The tab, laid out within a Blocks.

    Args:
        shelf: The models.
        outputs: Where results are written.
        chooser: The components of checkpoint, config and precision.
        drawn: The paths of the first tab's pictures, which can be taken.
        listeners: Who waits for results.

    Attributes:
        classes: The component of the classes, whose choices depend on the model.
    """

    def __init__(
        self,
        shelf: Shelf,
        outputs: Outputs,
        chooser: list,
        drawn: gr.State,
        listeners: Listeners,
    ) -> None:
        self._shelf = shelf
        self._outputs = outputs
        self._jobs = Jobs(listeners)
        offered = gr.State([])  # paths of pictures to pick; none: the digits
        with gr.Row():
            with gr.Column(scale=3, min_width=420):
                task = gr.Dropdown([*TASKS], value='inpainting', label='Task')
                told = gr.Markdown(HELP['inpainting'])
                editor = gr.ImageEditor(
                    type='pil',
                    format='png',
                    label='Picture',
                    sources=('upload', 'clipboard'),
                    brush=gr.Brush(
                        default_size=24,
                        default_color='#e03030',
                        colors=['#e03030', '#ffffff', '#000000'],
                    ),
                    transforms=(),
                    layers=False,
                    canvas_size=(SHOWN_SIZE, SHOWN_SIZE),
                    show_share_button=False,
                    height=520,
                    elem_id='editor',
                    elem_classes='pixels',
                )
                gr.Markdown('Upload a picture above, or pick one:')
                pick = gr.Gallery(
                    [enlarge(digit) for digit in digits_to_pick()],
                    label='Pick one',
                    show_label=False,
                    columns=5,
                    height=190,
                    format='png',
                    allow_preview=False,
                    show_share_button=False,
                    interactive=False,
                    elem_id='pick',
                    elem_classes='pixels',
                )
                take = gr.Button('Offer those drawn in the first tab', size='sm')
            with gr.Column(scale=2, min_width=260):
                mask = gr.Radio([*MASKS], value=MASKS[0], label='To be filled')
                second = gr.Image(
                    type='pil', label='Second picture', sources=('upload',), visible=False
                )
                self.classes = class_dropdown('None: at random.', max_choices=2)
                candidates = gr.Slider(1, MAX_CANDIDATES, 4, step=1, label='Candidates')
                seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label='Seed')
                factor = gr.Slider(2, 16, 4, step=1, label='Factor', visible=False)
                sigma = gr.Number(
                    None,
                    label='Noise level',
                    minimum=0,
                    maximum=1000,
                    info='Empty: a good one',
                    visible=False,
                )
                with gr.Accordion('Expert settings', open=False):
                    num_steps = gr.Slider(2, 100, 40, step=1, label='Noise levels')
                    levels = gr.Textbox(
                        '',
                        label='... or these levels',
                        placeholder='5.38, 2.24',
                        max_length=200,
                    )
                    num_resamples = gr.Slider(1, 20, 1, step=1, label='Visits of each level')
                with gr.Row():
                    run = gr.Button('Edit', variant='primary', elem_id='edit')
                    stop = gr.Button('Stop', variant='stop', elem_id='stop_edit')
            with gr.Column(scale=3, elem_id='results_edit'):
                results = result_parts('Results', columns=3)

        task.change(
            lambda task: [
                HELP[task],
                gr.update(visible=task == 'inpainting'),
                gr.update(visible=task == 'interpolation'),
                gr.update(visible=task == 'super-resolution'),
                gr.update(visible=task in ('denoising', 'interpolation')),
            ],
            task,
            [told, mask, second, factor, sigma],
            **QUIET,
        )
        pick.select(readable(_picked), offered, editor, **QUIET)
        editor.upload(readable(_uploaded), editor, editor, **QUIET)
        take.click(readable(_offered), drawn, [pick, offered], **QUIET)
        inputs = [*chooser, task, editor, mask, second, self.classes, candidates, seed]
        self._jobs.wire(
            run,
            stop,
            self.edit,
            [*inputs, factor, sigma, num_steps, levels, num_resamples],
            results,
            'edit',
        )

    def edit(
        self,
        checkpoint: str,
        config: str,
        precision: str,
        task: str,
        picture: dict | None,
        mask: str,
        second: Image.Image | None,
        classes: list[str],
        num_candidates: int,
        seed: int,
        factor: int,
        sigma: float | None,
        num_steps: int,
        levels: str,
        num_resamples: int,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it here
    ) -> list:
        """Edit; returns the pictures and the files of them.

        Raises:
            InputError: Settings that do not fit.
        """
        pictures, masks = _inputs(task, picture, mask, second)
        with self._jobs.running(request) as is_stopped:
            progress(0, desc='Loading the model')
            names = self._shelf.class_names(checkpoint, config)
            labels = labels_of(classes, names)
            model = self._shelf.model(checkpoint, config, precision)

            def report(evaluations: int) -> None:
                progress(None, desc=f'{evaluations} evaluations')

            try:
                with Watch(model, is_stopped, report):
                    [result] = edit_pictures(
                        model,
                        task,
                        pictures,
                        masks=masks,
                        factor=int(factor),
                        sigma=sigma,
                        sigmas=parse_levels(levels) if levels.strip() else None,
                        num_steps=int(num_steps),
                        num_resamples=int(num_resamples),
                        labels=labels,
                        seed=check_seed(seed),
                        num_candidates=int(num_candidates),
                    )
            except Stopped:
                gr.Info('Stopped.')
                return [gr.skip()] * 3
        folder = self._outputs.new()
        parts = {**result.shown}
        parts |= {f'candidate {k}': image for k, image in enumerate(result.candidates, start=1)}
        gallery = [
            (str(save_image(image, folder / f'{name.replace(" ", "_")}.png')), name)
            for name, image in parts.items()
        ]
        save_image(result.side_by_side(), folder / 'edited.png')
        save_npz(result.candidates, None, folder / 'edited.npz')
        return [gallery, *(str(folder / f'edited.{kind}') for kind in ('png', 'npz'))]


def _inputs(task: str, picture: dict | None, mask: str, second: Image.Image | None) -> tuple:
    """Pictures and masks as ``edit_pictures`` takes them."""
    if task == 'interpolation':
        if second is None:
            return [], []
        first, _ = from_editor(picture, needs_mask=False)
        return [first, shrink(second)], []
    image, painted = from_editor(picture, needs_mask=task == 'inpainting')
    return [image], [make_mask(mask, painted)] if task == 'inpainting' else []


def _picked(offered: list[str], event: gr.SelectData) -> Image.Image:
    if not offered:
        return enlarge(digits_to_pick()[event.index])
    with Image.open(offered[event.index]) as picture:
        return enlarge(picture)


def _uploaded(value: dict | None) -> Image.Image | dict:
    """A small picture as large as one can paint in, a large one as small as it is edited."""
    background = value and value['background']
    if background is None:
        return gr.skip()
    shown = enlarge(shrink(background))
    return gr.skip() if shown.size == background.size else shown


def _offered(drawn: list[str]) -> tuple[list[str], list[str]]:
    """What to show and what to pick from: the pictures that are still kept."""
    kept = [path for path in drawn if Path(path).exists()]
    if not kept:
        raise InputError('Nothing was drawn yet, or too long ago.')
    return kept, kept
