"""Bad input to every command: tables of what is tried, and of what must be said."""

from pathlib import Path
from typing import NamedTuple

# Braces name a file of `files.py`, {out} the folder of the case; <NAME> is given by the case, or
# else by USUAL.
COMMANDS = dict(
    train='tools/train.py <config> --work-dir {out}/run --cfg-options <tiny>',
    sample='tools/sample.py <config> <checkpoint> --num-samples 2 --out {out}/x.npz --device cpu',
    test='tools/test.py <config> <checkpoint> --work-dir {out}/run',
    search='tools/search_timesteps.py <config> <checkpoint> --work-dir {out}/run --num-scales 4',
    edit='tools/edit.py denoising <config> <checkpoint> <picture> --out {out}/edited --sigma 0.5 '
    '--labels 3 --num-candidates 1 --device cpu',
    benchmark='tools/benchmark.py <config> --repeats 1 --batch-size 2 --device cpu',
    flops='tools/analysis_tools/get_flops.py <config>',
    config='tools/analysis_tools/print_config.py <config>',
    browse='tools/analysis_tools/browse_dataset.py <config> --num 4 --out {out}/data.png',
    plot_run='tools/analysis_tools/plot_run.py <run> --out {out}/run.png',
    figures='tools/analysis_tools/plot_metrics.py <figures> --out {out}/figures.png',
    curves='tools/analysis_tools/plot_run.py <run> --metric fid --out {out}/figures.png',
    convert='tools/model_converters/convert.py <checkpoint> --config <config> --to ours '
    '--out {out}/x.safetensors',
    recode='tools/model_converters/convert.py <checkpoint> --to openai --out {out}/x.pt',
    publish='tools/model_converters/publish_model.py <checkpoint> {out}/x --config <config>',
    imagenet='tools/dataset_converters/imagenet.py <folder> --out {out}/x --size 8 --workers 1',
    lsun='tools/dataset_converters/lsun.py <folder> --out {out}/x --size 8 --workers 1',
    evaluate='mmagic_cm.evaluation <reference> <samples> --extractor pixels --device cpu',
    demo='demo/digits_demo.py --work-dir <run>',
    gallery='demo/digits_gallery.py <config> <checkpoint> {out}/gallery',
    download='demo/download_checkpoints.py <name>',
    page='demo/gradio_demo.py --work-dirs <run> --device cpu',
    mmagic='demo/mmagic_inference_demo.py --model-config <config> --model-ckpt <checkpoint> '
    '--label 3 --result-out-dir {out}/x.png --device cpu',
)
USUAL = dict(
    config='{good.py}',
    checkpoint='{good.pth}',
    picture='{good.png}',
    run='{run.}',
    figures='{good.json}',
    folder='{classes.}',
    reference='{good.npz}',
    samples='{good.npz}',
)


class Case(NamedTuple):
    """A command with something bad.

    Attributes:
        command: Of COMMANDS.
        more: Arguments at its end.
        named: What the refusal must name; None: it need not be refused.
        given: Other than the usual files.
        largest_file: See ``Commands.start``.
    """

    command: str
    more: str = ''
    named: str | None = 'error'
    given: dict[str, str] | None = None
    largest_file: int | None = None

    def __str__(self) -> str:
        words = [self.command, *(self.given or {}).values(), self.more]
        words += [f'no file above {self.largest_file}'] if self.largest_file is not None else []
        return ' '.join(word for word in words if word)


def files_to(command: str, what: str, names: str, **others) -> list[Case]:
    """A case for each of some files, which the refusal names unless the name is in brackets."""
    cases = []
    for text in names.split():
        name = text.strip('()')
        named = None if text.startswith('(') else Path(name.removeprefix('among-')).stem
        settings = dict(named=named) | others
        cases.append(Case(command, given={what: f'{{{name}}}'}, **settings))
    return cases


def options_of(command: str, table: str) -> list[Case]:
    """A case for each line ``OPTIONS | WORD``, of which the refusal names the word."""
    cases = []
    for line in table.strip().splitlines():
        more, _, named = line.partition('|')
        cases.append(Case(command, more.strip(), named.strip() or None))
    return cases


UNREADABLE = 'missing.pth text.pth cut.pth folder.pth fifo.pth endless.pth secret.pth '
HOSTILE = 'flipped.pth giant.pth strided.pth deflated.pth calls.pth nested.pth list.pth '
SAFE = 'text.safetensors header.safetensors promises.safetensors '
CHECKPOINTS = [
    *files_to('sample', 'checkpoint', UNREADABLE + HOSTILE + SAFE + 'other.pth nan.pth'),
    *files_to('convert', 'checkpoint', 'missing.pth strided.pth deflated.pth'),
    *files_to('recode', 'checkpoint', 'strided.pth blocks.pth subprocess.pth'),
    *files_to('publish', 'checkpoint', 'fifo.pth flipped.pth'),
    *files_to('test', 'checkpoint', 'giant.pth nan.pth'),
    *files_to('search', 'checkpoint', 'nan.pth'),
    *files_to('edit', 'checkpoint', 'flipped.pth nan.pth'),
    *files_to('mmagic', 'checkpoint', 'calls.pth'),
    # As their own config.
    *files_to('sample', 'config', 'blocks.pth wide.pth subprocess.pth code.pth other.pth'),
    *(
        Case('train', f'train_cfg.max_iters=4 --resume {{{name}}}', Path(name).stem)
        for name in (HOSTILE + 'nan.pth').split()
    ),
    Case('train', 'load_from={fifo.pth}', 'fifo'),
    Case(
        'train',
        'model.teacher.checkpoint={nan.pth} model.init_from=teacher',
        'nan',
        dict(config='{distilling.py}'),
    ),
]

BAD_PICTURES = 'text.png cut.png fifo.png endless.png secret.png huge.png giant.png postscript.png '
FOLDERS = dict(config='{folders.py}')
DATA = [
    *files_to('edit', 'picture', BAD_PICTURES + 'missing.png float.tiff (rotated.jpg) (tiny.png)'),
    *files_to('evaluate', 'samples', ' '.join(f'among-{name}' for name in BAD_PICTURES.split())),
    *files_to('evaluate', 'samples', 'among-wide.png text.npz promises.npz pickled.npz rows.npz'),
    # It writes down which pictures it could not read.
    *files_to('imagenet', 'folder', 'among-cut.png among-fifo.png among-huge.png', named=None),
    *(
        Case('browse', f'--cfg-options data_root={{{name}}}', None, FOLDERS)
        for name in ('among-empty.png', 'among-fifo.png', 'among-float.tiff')
    ),
    Case('browse', '--cfg-options data_root={locked.classes}', 'two', FOLDERS),
    Case('browse', '--cfg-options data_root={stray.classes}', 'stray', FOLDERS),
    *(
        Case(
            'train',
            f'train_dataloader.dataset.ann_file={{{name}.txt}} num_classes=None',
            name,
            FOLDERS,
        )
        for name in ('labels', 'signs', 'text', 'fifo')
    ),
    *files_to('evaluate', 'reference', 'missing.npz fifo.npz endless.npz bomb.npz nan.npz'),
    Case('evaluate', '--crop none', 'wall', dict(reference='{wall.npz}', samples='{wall.npz}')),
    *files_to('evaluate', 'samples', 'cut.lmdb keys.lmdb values.lmdb damaged.lmdb pipe.lmdb'),
    *files_to('lsun', 'folder', 'missing.lmdb cut.lmdb values.lmdb'),
    *options_of(
        'evaluate',
        """
        --extractor {module.pt} | module
        --extractor {fifo.pt} | fifo
        --extractor inception --inception {text.pth} | text
        --metrics fdi | fid
        --num-samples 21 | 21
        --batch-size 0 | batch-size
        """,
    ),
    *files_to('plot_run', 'run', 'missing.run text.run words.run (nan.run) pipe.run (grid.run)'),
    *files_to('curves', 'run', 'words.run'),
    *files_to('figures', 'figures', 'text.json list.json deep.json fifo.json endless.json'),
]

BAD_CONFIGS = 'missing.py text.py syntax.py null.py folder.py fifo.py endless.py secret.py '
BAD_CONFIGS += 'itself.py baseless.py raises.py imports.py deep.py runs.yaml aliases.yaml '
CONFIGS = [
    *files_to('config', 'config', BAD_CONFIGS),
    *files_to('benchmark', 'config', 'untyped.py', named='type'),
    *files_to('train', 'config', 'runs.json'),
    *files_to('mmagic', 'config', 'missing.py'),
    *options_of(
        'train',
        """
        optim_wrapper.optimizer.lr=fast | optim_wrapper
        optim_wrapper.optimizer.momentun=0.9 | momentun
        optim_wrapper.optimizer.betas.0=0.5 | betas
        optim_wrapper.clip_grad.max_nrm=1 | max_nrm
        optim_wrapper.accumulative_counts=0 | accumulative_counts
        randomness.sed=1 | sed
        randomness.seed=first | randomness
        visualizer.vis_backend=3 | vis_backend
        default_hooks.checkpoint.max_keep_ckpt=2 | max_keep_ckpts
        default_hooks.checkpoint.interval=often | checkpoint
        default_hooks.chekpoint.interval=1 | interval
        model_wrapper_cfg.broadcast_bufers=True | broadcast_buffers
        optim_wraper.optimizer.lr=1 | optim_wrapper
        train_cfg.max_iters=many | max_iters
        train_cfg.type=ResumableLoop | ResumableIterLoop
        train_dataloader.batch_size=0 | batch_size
        train_dataloader.batchsize=8 | batch_size
        train_dataloader.sampler.shufle=True | shufle
        train_dataloader.collate_fn.type=defualt_collate | train_dataloader
        train_dataloader.dataset.split=tarin | tarin
        train_dataloader.dataset.pipeline.3.type=PackImage | pipeline
        model.objective.type=ConsistencyTrainin | ConsistencyTraining
        model.objective.distance=l3 | l3
        model.objective.curriculum.start_scales=nan | start_scales
        model.objective.curriculum.end_scales=1000000000 |
        model.denoiser.sigma_data=nan | sigma_data
        model.denoiser.network.model_channels=0 | widths
        model.denoiser.network.channel_mult=() | channel_mult
        model.denoiser.network.num_classes=-1 | num_classes
        model.denoiser.network.num_classes=5 | label
        model.init_from={text.pth} | text
        custom_hooks.9.type=EMAHook | custom_hooks
        param_scheduler.eta_mni=1 | eta_mni
        log_level=LOUD | log_level
        env_cfg.mp_cfg.mp_start_method=forq | forq
        --seed 1000000000000000000000 | seed
        --launcher pytorch | pytorch
        nothing | nothing
        """,
    ),
    Case('train', '--resume --work-dir {lost.run}', 'iter_7'),
    Case('train', '--resume --work-dir {garbled.run}', 'garbled'),
    *options_of(
        'test',
        """
        --num-samples 5000 | 5,000
        --seed -1 | seed
        --ema 0.5 | 0.5
        --sampler heun num_step=3 | num_step
        --cfg-options test_evaluator.type=DigitMetric | DigitsMetric
        --cfg-options test_evaluators.type=DigitsMetric | test_evaluator
        --cfg-options model.sampler.typ=x | typ
        --cfg-options a.b | a.b
        """,
    ),
]

NUMBERS = [
    *options_of(
        'sample',
        """
        --num-samples 0 | num
        --batch-size 1000000000 |
        --seed 1000000000000000000000000000000 |
        --labels 10 | 10
        --labels 0-1000000000 | 1000000000
        --ts 0,40 --num-scales 40 | 40
        --ts=-1,39 --num-scales 40 | -1
        --ts 0,39 --num-scales 1000000000 | 1000000000
        --timesteps 3,5 --num-scales 40 | 3,5
        --sampler heun num_steps=1000000000 | 1000000000
        --sampler heun num_steps=nan | nan
        --sampler heun sigma_max=inf | sigma_max
        --sampler heun s_noise=nan | s_noise
        --sampler heun rho=0 | rho
        --sampler huen | heun
        --sampler multistep sigmas=(inf,1) | sigmas
        --guidance-scale nan | guidance
        --ema nan | nan
        --precision fp16 | fp16
        --device cuda:99 | cuda
        --device meta | meta
        --columns 0 --out {out}/x.png | columns
        --cfg-options model.denoiser.sigma_max=-80 | sigma_max
        --cfg-options modle.denoiser.sigma_max=80 | model
        --out {out}/x.npy | npy
        """,
    ),
    *options_of(
        'edit',
        """
        --sigma inf | sigma
        --labels 10 | 10
        --num-candidates 0 | candidates
        --teacher {text.pth} --teacher {cut.pth} | cut
        {good.png} | good
        """,
    ),
    *options_of(
        'search',
        """
        --num-scales 1000000000 | 1000000000
        --metric acuracy | accuracy
        """,
    ),
    *options_of('flops', '--cfg-options model.denoiser.network.channel_mult=0 | channel_mult'),
    *options_of('benchmark', '--device nowhere | nowhere'),
    *options_of('browse', '--num 0 | num'),
    *options_of('imagenet', '--workers 0 | workers'),
    *options_of(
        'page',
        """
        --port 99999 | 99999
        --work-dirs {missing.run} | missing
        --host nowhere.invalid | nowhere
        """,
    ),
    *options_of(
        'mmagic',
        """
        --label 1000000000 | 1000000000
        --model-name consistency_model | consistency_models
        --img {text.png} --extra-parameters task=denoising | text
        """,
    ),
    Case('download', '', 'cd_imagenet64_lpips', dict(name='cd_imagenet64_lpip')),
    Case('demo', '', 'pictures', dict(run='{pictures.}')),
]

# Every command that writes, and what would be its output.
WRITERS = dict(
    train='--work-dir <out>',
    sample='--out <out>.npz',
    test='--num-samples 20 --out <out>.json',
    edit='--out <out>',
    benchmark='--out <out>.json',
    flops='--out <out>.json',
    config='--out <out>.py',
    browse='--out <out>.png',
    plot_run='--out <out>.png',
    figures='--out <out>.png',
    convert='--out <out>.pth',
    imagenet='--out <out>',
    lsun='--out <out>.lmdb',
    evaluate='--out <out>.json',
)
MACHINE = [
    # Below a file, and where nothing fits.
    *(
        Case(command, more.replace('<out>', '{good.png}/x'), 'good.png')
        for command, more in WRITERS.items()
    ),
    *(
        Case(command, more.replace('<out>', '{out}/y'), 'y', largest_file=0)
        for command, more in WRITERS.items()
    ),
    Case('sample', '--out {locked.folder}/x.npz', 'locked'),
    Case('convert', f'--out {{out}}/{"x" * 300}.pth', 'xxxxx'),
    Case('sample', '--out {out}/y.npz --num-samples 400', 'y.npz', largest_file=2000),
    Case('sample', '--out {out}/y', 'y', largest_file=20),
    *(
        Case('convert', f'--to {to} --out {{out}}/y{suffix}', 'y', largest_file=20_000)
        for to, suffix in [('ours', '.safetensors'), ('openai', '.pt'), ('diffusers', '')]
    ),
    Case('publish', '', 'x', largest_file=20_000),
    Case('train', 'default_hooks.checkpoint.interval=1', 'iter_1', largest_file=200_000),
    Case('lsun', '--out {out}/y.lmdb', 'y.lmdb', dict(folder='{good.lmdb}'), 60_000),
]
SECTIONS = dict(
    checkpoints=CHECKPOINTS, data=DATA, configs=CONFIGS, numbers=NUMBERS, machine=MACHINE
)
