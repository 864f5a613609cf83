"""The first tab: draw images, with one sampler or with two side by side."""

import gradio as gr

from ..sampling.choice import sampler_names
from ..sampling.loop import check_seed
from .events import QUIET, Jobs, Listeners
from .models import Shelf, labels_of
from .outputs import Outputs
from .sampling import NOISE, OWN, Sampled, make_sampler, sample, settings_of, table

MAX_IMAGES = 256
MAX_SEED = 2**53 - 1  # a browser's numbers go up to there
COLUMNS, COLUMNS_OF_TWO = 8, 3  # of the galleries


def sampler_controls(name: str, kind: str) -> list[gr.components.Component]:
    """Lay out what says a sampler, in the order of the arguments of :func:`make_sampler`.

    Only what the kind of sampler has is seen.
    """
    controls = [
        gr.Dropdown(
            [OWN, *sampler_names()],
            value=kind,
            label=f'Sampler {name}',
            elem_id=f'sampler_{name.lower()}',
        ),
        gr.Slider(1, 20, 2, step=1, label='Noise levels', info='One evaluation each'),
        gr.Textbox('', label='... or these levels', placeholder='80, 1.3', max_length=200),
        gr.Slider(1, 100, 18, step=1, label='Steps'),
        gr.Slider(0, 100, 0.0, label='Churn', info='Noise added on the way'),
    ]
    for control, visible in zip(controls[1:], _visible(kind), strict=True):
        control.visible = visible
    controls[0].change(
        lambda kind: [gr.update(visible=visible) for visible in _visible(kind)],
        controls[0],
        controls[1:],
        **QUIET,
    )
    return controls


def _visible(kind: str) -> list[bool]:
    known = settings_of(kind)
    return [name in known for name in ('sigmas', 'sigmas', 'num_steps', 's_churn')]


def result_parts(name: str, columns: int = COLUMNS) -> list[gr.components.Component]:
    """Lay out what shows a set of images: a gallery, and its downloads as PNG and npz."""
    gr.Markdown(f'**{name}**')
    gallery = gr.Gallery(
        label=name,
        show_label=False,
        columns=columns,
        object_fit='contain',
        format='png',
        height=420,
        elem_classes='pixels',
        show_share_button=False,
        interactive=False,
    )
    with gr.Row():
        png = gr.DownloadButton('Download as PNG', size='sm')
        npz = gr.DownloadButton('Download as npz', size='sm')
    return [gallery, png, npz]


def shown(drawn: Sampled | None, names: list[str] | None, outputs: Outputs) -> list:
    """Values of :func:`result_parts`."""
    if drawn is None or not len(drawn.images):
        return [None, None, None]
    images, grid, npz = drawn.save(outputs.new())
    captions = [None] * len(images)
    if drawn.labels is not None and names is not None:
        captions = [names[label] if label >= 0 else 'no class' for label in drawn.labels]
    gallery = [(str(path), caption) for path, caption in zip(images, captions, strict=True)]
    return [gallery, str(grid), str(npz)]


class GenerateTab:
    """The tab, laid out within a Blocks.

    Args:
        shelf: The models.
        outputs: Where results are written.
        chooser: The components of checkpoint, config and precision.
        listeners: Who waits for results.

    Attributes:
        classes: The component of the classes, whose choices depend on the model.
        drawn: The paths of a session's pictures by sampler A, which the server alone sees.
    """

    def __init__(self, shelf: Shelf, outputs: Outputs, chooser: list, listeners: Listeners) -> None:
        self._shelf = shelf
        self._outputs = outputs
        self.drawn = gr.State([])
        self._jobs = Jobs(listeners)
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                self.classes = class_dropdown(
                    'None: at random. Several: in turn.', elem_id='classes_generate'
                )
                with gr.Row():
                    num_images = gr.Slider(
                        1, MAX_IMAGES, 16, step=1, label='Images', elem_id='num_images'
                    )
                    seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label='Seed')
                first = sampler_controls('A', 'onestep')
                compare = gr.Checkbox(
                    False,
                    label='Beside it, another sampler from the same noise',
                    elem_id='compare',
                )
                with gr.Column(visible=False) as second_column:
                    second = sampler_controls('B', 'multistep')
                with gr.Accordion('Expert settings', open=False):
                    noise = gr.Radio([*NOISE], value=next(iter(NOISE)), label='Noise')
                    dropout = gr.Checkbox(False, label='Keep dropout as in training')
                    batch_size = gr.Slider(
                        1, MAX_IMAGES, 64, step=1, label='Images at a time', elem_id='batch_size'
                    )
                with gr.Row():
                    run = gr.Button('Generate', variant='primary', elem_id='generate')
                    stop = gr.Button('Stop', variant='stop', elem_id='stop_generate')
            with gr.Column(scale=3):
                costs = gr.Markdown(label='Costs', elem_id='costs')
                with gr.Row():
                    with gr.Column(elem_id='results_a'):
                        a = result_parts('A')
                    with gr.Column(visible=False, elem_id='results_b') as results_column:
                        b = result_parts('B')
        compare.change(
            lambda wanted: [
                *[gr.Column(visible=wanted)] * 2,
                *[gr.Gallery(columns=COLUMNS_OF_TWO if wanted else COLUMNS)] * 2,
            ],
            compare,
            [second_column, results_column, a[0], b[0]],
            **QUIET,
        )
        inputs = [*chooser, self.classes, num_images, seed, *first, compare, *second]
        self._jobs.wire(
            run,
            stop,
            self.generate,
            [*inputs, noise, dropout, batch_size],
            [costs, *a, *b, self.drawn],
            'generate',
        )

    def generate(
        self,
        checkpoint: str,
        config: str,
        precision: str,
        classes: list[str],
        num_images: int,
        seed: int,
        sampler: str,
        num_levels: int,
        levels: str,
        num_steps: int,
        churn: float,
        compare: bool,
        sampler_b: str,
        num_levels_b: int,
        levels_b: str,
        num_steps_b: int,
        churn_b: float,
        noise: str,
        dropout: bool,
        batch_size: int,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it here
    ) -> list:
        """Draw; returns what it cost, the images and files of A and B, and the paths of A's.

        Raises:
            InputError: Settings that do not fit.
        """
        choices = [(sampler, num_levels, levels, num_steps, churn)]
        if compare:
            choices.append((sampler_b, num_levels_b, levels_b, num_steps_b, churn_b))
        with self._jobs.running(request) as is_stopped:
            progress(0, desc='Loading the model')
            names = self._shelf.class_names(checkpoint, config)
            labels = labels_of(classes, names)
            model = self._shelf.model(checkpoint, config, precision)
            samplers = [make_sampler(model, *choice) for choice in choices]
            total = num_images * sum(sampler.num_evaluations for sampler in samplers)
            results: list[Sampled] = []

            def report(evaluations: int) -> None:
                past = sum(round(r.evaluations * len(r.images)) for r in results)
                done = min((past + evaluations) / total, 1.0)  # guidance evaluates twice
                progress(done, desc='Sampling')

            for chosen in samplers:
                drawn = sample(
                    model,
                    int(num_images),
                    labels,
                    chosen,
                    seed=check_seed(seed),
                    batch_size=int(batch_size),
                    noise=noise,
                    dropout=dropout,
                    is_stopped=is_stopped,
                    report=report,
                )
                results.append(drawn)
                if not drawn.is_whole:
                    break
        a, b = [*results, None][:2]
        shown_a, shown_b = (shown(drawn, names, self._outputs) for drawn in (a, b))
        drawn = [path for path, _ in shown_a[0] or ()]
        return [table(results, model.device), *shown_a, *shown_b, drawn]


def class_dropdown(info: str, max_choices: int = MAX_IMAGES, **settings) -> gr.Dropdown:
    """Classes by name or number, searchable; their choices come with the model."""
    return gr.Dropdown(
        [],
        value=[],
        multiselect=True,
        max_choices=max_choices,
        allow_custom_value=True,
        label='Classes',
        info=info,
        **settings,
    )
