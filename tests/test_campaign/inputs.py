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


ANY = 'missing.pth empty.pth text.pth cut.pth folder.pth fifo.pth endless.pth secret.pth '
HOSTILE = 'flipped.pth giant.pth strided.pth deflated.pth calls.pth nested.pth list.pth other.pth '
SAFE = 'text.safetensors cut.safetensors header.safetensors promises.safetensors fifo.safetensors '
CHECKPOINTS = [
    *files_to('sample', 'checkpoint', ANY + HOSTILE + SAFE + 'nan.pth'),
    *files_to('convert', 'checkpoint', HOSTILE + 'missing.pth fifo.pth promises.safetensors'),
    *files_to('recode', 'checkpoint', 'strided.pth deflated.pth blocks.pth subprocess.pth'),
    *files_to('publish', 'checkpoint', 'fifo.pth flipped.pth deflated.pth'),
    *files_to('test', 'checkpoint', 'giant.pth flipped.pth nan.pth'),
    *files_to('search', 'checkpoint', 'nan.pth'),
    *files_to('edit', 'checkpoint', 'endless.pth flipped.pth nan.pth'),
    *files_to('gallery', 'checkpoint', 'cut.pth nan.pth'),
    *files_to('mmagic', 'checkpoint', 'cut.pth calls.pth'),
    # As their own config.
    *files_to('sample', 'config', 'blocks.pth subprocess.pth code.pth cut.pth other.pth'),
    Case('sample', '', 'does not fit', dict(config='{wide.pth}')),
    *files_to('train', 'config', 'fifo.pth'),
    *(
        Case('train', f'train_cfg.max_iters=4 --resume {{{name}}}', Path(name).stem)
        for name in (HOSTILE + 'fifo.pth missing.pth nan.pth').split()
    ),
    *(
        Case('train', f'load_from={{{name}}}', Path(name).stem)
        for name in ('fifo.pth', 'giant.pth')
    ),
    *(
        Case(
            'train',
            f'model.teacher.checkpoint={{{name}}} model.init_from=teacher',
            Path(name).stem,
            dict(config='{distilling.py}'),
        )
        for name in ('missing.pth', 'nan.pth')
    ),
]

BAD_PICTURES = 'empty.png text.png cut.png folder.png fifo.png endless.png secret.png huge.png '
BAD_PICTURES += 'giant.png postscript.png '
AMONG = ' '.join(f'among-{name}' for name in BAD_PICTURES.split() if name != 'folder.png')
DATA = [
    *files_to('edit', 'picture', BAD_PICTURES + 'missing.png float.tiff (rotated.jpg) (tiny.png)'),
    *files_to('evaluate', 'samples', AMONG + ' among-wide.png'),
    # It writes down which pictures it could not read.
    *files_to('imagenet', 'folder', 'among-cut.png among-fifo.png among-huge.png', named=None),
    *(
        Case('browse', f'--cfg-options data_root={{{name}}}', None, dict(config='{folders.py}'))
        for name in ('among-empty.png', 'among-fifo.png', 'among-huge.png', 'among-float.tiff')
    ),
    *files_to('mmagic', 'config', 'missing.py syntax.py'),
    Case('browse', '--cfg-options data_root={locked.classes}', 'two', dict(config='{folders.py}')),
    Case('browse', '--cfg-options data_root={stray.classes}', 'stray', dict(config='{folders.py}')),
    *(
        Case(
            'train',
            f'train_dataloader.dataset.ann_file={{{name}.txt}} num_classes=None',
            name,
            dict(config='{folders.py}'),
        )
        for name in ('labels', 'signs', 'text', 'fifo')
    ),
    *files_to('evaluate', 'reference', 'missing.npz empty.npz text.npz cut.npz folder.npz'),
    *files_to('evaluate', 'reference', 'fifo.npz endless.npz secret.npz bomb.npz promises.npz'),
    *files_to('evaluate', 'reference', 'pickled.npz nan.npz rows.npz floats.npz'),
    *files_to('evaluate', 'samples', 'text.npz cut.npz fifo.npz'),
    *files_to('evaluate', 'samples', 'promises.npz pickled.npz rows.npz floats.npz'),
    Case('evaluate', '--crop none', 'wall', dict(reference='{wall.npz}', samples='{wall.npz}')),
    *files_to('evaluate', 'samples', 'cut.lmdb keys.lmdb values.lmdb damaged.lmdb garbage.lmdb'),
    *files_to('evaluate', 'samples', 'nothing.lmdb pipe.lmdb'),
    *files_to('lsun', 'folder', 'missing.lmdb cut.lmdb keys.lmdb values.lmdb'),
    *options_of(
        'evaluate',
        """
        --extractor {module.pt} | module
        --extractor {text.pt} | text
        --extractor {fifo.pt} | fifo
        --extractor inception --inception {text.pth} | text
        --extractor inception --inception {fifo.pth} | fifo
        --extractor inception --inception {missing.pth} | missing
        --metrics fdi | fid
        --metrics is | is
        --crop 1000000000 | 1000000000
        --num-samples 21 | 21
        --batch-size 0 | batch-size
        --batch-size 1000000000 |
        """,
    ),
    *files_to('plot_run', 'run', 'missing.run text.run words.run stepless.run (nan.run) pipe.run'),
    *files_to('plot_run', 'run', '(grid.run) empty.run'),
    *files_to('curves', 'run', 'missing.run words.run pipe.run'),
    *files_to('figures', 'figures', 'missing.json text.json list.json deep.json'),
    *files_to('figures', 'figures', 'fifo.json endless.json cut.json secret.json'),
]

BAD_CONFIGS = 'missing.py (empty.py) text.py syntax.py null.py folder.py fifo.py endless.py '
BAD_CONFIGS += 'secret.py itself.py baseless.py raises.py imports.py deep.py '
BAD_CONFIGS += 'runs.yaml aliases.yaml runs.json '
CONFIGS = [
    *files_to('config', 'config', BAD_CONFIGS),
    *files_to('sample', 'config', 'text.py number.py runs.yaml runs.json'),
    *files_to('train', 'config', 'untyped.py runs.yaml runs.json empty.py'),
    *files_to('test', 'config', 'runs.yaml runs.json'),
    *files_to('flops', 'config', 'number.py'),
    *files_to('benchmark', 'config', 'untyped.py'),
    *options_of(
        'train',
        """
        optim_wrapper.optimizer.lr=fast | fast
        optim_wrapper.optimizer.lr=nan | lr
        optim_wrapper.optimizer.momentun=0.9 | momentun
        optim_wrapper.optimizer.betas.0=0.5 | betas
        optim_wrapper.clip_grad.max_nrm=1 | max_nrm
        optim_wrapper.accumulative_counts=0 | accumulative_counts
        optim_wrapper.type=OptimWraper | OptimWrapper
        randomness.sed=1 | sed
        randomness.seed=first | seed
        visualizer.vis_backends.0.type=LocalBackend | LocalBackend
        visualizer.vis_backend=3 | vis_backend
        default_hooks.checkpoint.max_keep_ckpt=2 | max_keep_ckpts
        default_hooks.checkpoint.interval=often | interval
        default_hooks.checkpoint.interval=0 |
        default_hooks.logger.interval=0 | interval
        default_hooks.chekpoint.interval=1 | checkpoint
        model_wrapper_cfg.broadcast_bufers=True | broadcast_buffers
        optim_wraper.optimizer.lr=1 | optim_wrapper
        modle.type=ConsistencyModel | model
        trian_cfg.max_iters=3 | train_cfg
        train_cfg.max_iters=many | max_iters
        train_cfg.max_iter=5 | max_iter
        train_cfg.type=ResumableLoop | ResumableIterLoop
        train_dataloader.batch_size=0 | batch_size
        train_dataloader.batchsize=8 | batch_size
        train_dataloader.num_workers=-1 | num_workers
        train_dataloader.sampler.type=DefaultSampler | ResumableSampler
        train_dataloader.sampler.shufle=True | shufle
        train_dataloader.collate_fn.type=defualt_collate | collate
        train_dataloader.dataset.split=tarin | tarin
        train_dataloader.dataset.pipeline.0.type=PackImages | PackImage
        train_dataloader.dataset.pipeline.3.type=PackImage | pipeline
        model.objective.type=ConsistencyTrainin | ConsistencyTraining
        model.objective.distance=l3 | l3
        model.objective.curriculum.start_scales=nan | start_scales
        model.objective.curriculum.end_scales=1000000000 |
        model.objective.curriculum.start_em=0.9 | start_em
        model.denoiser.sigma_data=nan | sigma_data
        model.denoiser.sigma_max=inf | sigma_max
        model.denoiser.network.model_channels=0 | model_channels
        model.denoiser.network.channel_mult=() | channel_mult
        model.denoiser.network.num_classes=-1 | num_classes
        model.denoiser.network.num_classes=5 | label
        model.denoiser.network.dropout=2 | dropout
        model.denoiser.network=3 | network
        model.init_from={text.pth} | text
        model.channel_last=True | channel_last
        custom_hooks.1.rates=(2,) | rates
        custom_hooks.9.type=EMAHook | custom_hooks
        custom_hooks.2.num_colums=3 | num_colums
        param_scheduler.type=CosineAnealingLR | CosineAnealingLR
        param_scheduler.eta_mni=1 | eta_mni
        log_level=LOUD | log_level
        log_processor.by_epochs=True | by_epochs
        env_cfg.mp_cfg.mp_start_method=forq | forq
        default_scope=nowhere |
        val_cfg.type=ValLoop | val
        resume=maybe |
        --seed -1 | seed
        --seed 1000000000000000000000 | seed
        --launcher pytorch | pytorch
        --resume {lost.run} | lost
        nothing | nothing
        """,
    ),
    Case('train', '--resume --work-dir {lost.run}', 'iter_7'),
    Case('train', '--resume --work-dir {garbled.run}', 'garbled'),
    *options_of(
        'test',
        """
        --num-samples 5000 | 5000
        --num-samples 0 | num-samples
        --num-samples -1 | num-samples
        --seed -1 | seed
        --ema 0.5 | 0.5
        --sampler huen | heun
        --sampler heun num_step=3 | num_step
        --cfg-options test_evaluator.type=DigitMetric | DigitsMetric
        --cfg-options test_evaluators.type=DigitsMetric | test_evaluator
        --cfg-options test_dataloader.batch_size=0 | batch_size
        --cfg-options test_dataloader.batchsize=10 | batch
        --cfg-options test_evaluator.prefx=x | prefx
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
        --num-samples -1 | num
        --batch-size 0 | batch
        --batch-size 1000000000 |
        --seed -1 | seed
        --seed 1000000000000000000000000000000 |
        --labels 10 | 10
        --labels 0-1000000000 | 1000000000
        --labels 1000000000 | 1000000000
        --labels=-1 | -1
        --ts 0,40 --num-scales 40 | 40
        --ts=-1,39 --num-scales 40 | -1
        --ts 0,22,39 | num_scales
        --ts 0,39 --num-scales 1000000000 |
        --timesteps 3,5 --num-scales 40 | 3,5
        --sampler heun num_steps=1000000000 |
        --sampler heun num_steps=nan | num_steps
        --sampler heun sigma_max=nan | sigma_max
        --sampler heun sigma_max=inf | sigma_max
        --sampler heun sigma_min=-1 | sigma_min
        --sampler heun rho=0 | rho
        --sampler heun s_noise=nan | s_noise
        --sampler heun s_churn=nan | s_churn
        --sampler heun num_step=18 | num_step
        --sampler huen | heun
        --sampler multistep sigmas=(inf,1) | sigmas
        --sampler multistep sigmas=(1,2) | sigmas
        --guidance-scale nan | guidance
        --ema nan | nan
        --precision fp16 | fp16
        --device cuda:99 | cuda
        --device nowhere | nowhere
        --device meta | meta
        --columns 0 --out {out}/x.png | columns
        --columns 1000000000 --out {out}/x.png |
        --launcher pytorch | pytorch
        --cfg-options model.denoiser.sigma_data=nan | sigma_data
        --cfg-options model.denoiser.sigma_max=-80 | sigma_max
        --cfg-options modle.denoiser.sigma_max=80 | model
        --out {out}/x.npy | npy
        """,
    ),
    *options_of(
        'edit',
        """
        --sigma nan | sigma
        --sigma=-1 | sigma
        --sigma inf | sigma
        --sigmas 5,nan | nan
        --labels 10 | 10
        --labels 1000000000 | 1000000000
        --num-candidates 0 | candidates
        --batch-size 0 | batch
        --seed -1 | seed
        --guidance-scale nan | guidance
        --teacher {text.pth} --teacher {cut.pth} | cut
        {good.png} | good
        """,
    ),
    *options_of(
        'search',
        """
        --num-scales 0 | 0 scales
        --num-scales 1000000000 | 1000000000
        --metric acuracy | accuracy
        --num-samples 0 | num
        --seed -1 | seed
        """,
    ),
    *options_of(
        'flops',
        """
        --batch-size 0 | batch-size
        --batch-size 1000000000 |
        --at nan | at
        --cfg-options model.denoiser.network.channel_mult=0 | channel_mult
        """,
    ),
    *options_of(
        'benchmark',
        """
        --repeats 0 | repeats
        --batch-size -1 | batch
        --device nowhere | nowhere
        --at nan --what train | at
        --compile --what train | compile
        """,
    ),
    *options_of(
        'browse',
        """
        --num 0 | num
        --num -1 | num
        """,
    ),
    *options_of(
        'imagenet',
        """
        --size 0 | size
        --size 1000000000 | size
        --workers 0 | workers
        --strict | class
        """,
    ),
    *options_of(
        'page',
        """
        --port 99999 | 99999
        --port -1 | port
        --device nowhere | nowhere
        --work-dirs {missing.run} | missing
        --host nowhere.invalid | nowhere
        """,
    ),
    *options_of(
        'mmagic',
        """
        --label 10 | 10
        --label 1000000000 | 1000000000
        --model-name consistency_model | consistency_models
        --img {text.png} --extra-parameters task=denoising | text
        --extra-parameters sampler=huen | heun
        """,
    ),
    Case('download', '', 'cd_imagenet64_lpips', dict(name='cd_imagenet64_lpip')),
    Case('demo', '', 'pictures', dict(run='{pictures.}')),
    Case('demo', '', 'missing', dict(run='{good.png}/missing')),
]

LONG = 'x' * 300
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
PLACES = {
    '{good.png}/x': 'good.png',  # below a file
    '{locked.folder}/x': 'locked',
    '{out}/' + LONG: 'xxxxx',
}
MACHINE = [
    *(
        Case(command, more.replace('<out>', place), named)
        for command, more in WRITERS.items()
        for place, named in PLACES.items()
    ),
    *(
        Case(command, more.replace('<out>', '{out}/y'), 'y', largest_file=0)
        for command, more in WRITERS.items()
    ),
    Case('sample', '--out {out}/y.npz --num-samples 400', 'y.npz', largest_file=2000),
    Case('sample', '--out {out}/y.png --num-samples 64', 'y.png', largest_file=3000),
    Case('sample', '--out {out}/y', 'y', largest_file=20),
    *(
        Case('convert', f'--to {to} --out {{out}}/y{suffix}', 'y', largest_file=20_000)
        for to, suffix in [('ours', '.safetensors'), ('openai', '.pt'), ('diffusers', '')]
    ),
    Case('publish', '', 'x', largest_file=20_000),
    Case('publish', '--format pth', 'x', largest_file=20_000),
    Case('train', '', 'iter_2', largest_file=50_000),
    Case('train', 'default_hooks.checkpoint.interval=1', 'iter_1', largest_file=200_000),
    Case('lsun', '--out {out}/y.lmdb', 'y.lmdb', dict(folder='{good.lmdb}'), 60_000),
]
SECTIONS = dict(
    checkpoints=CHECKPOINTS, data=DATA, configs=CONFIGS, numbers=NUMBERS, machine=MACHINE
)
