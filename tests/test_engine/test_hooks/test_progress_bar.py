"""The bar on the terminal."""

from tqdm import tqdm

from mmagic_cm.engine.hooks import progress_bar as progress_bar_hook


def test_bar_counts_from_where_the_run_stands_and_shows_the_loss(trainer, capsys, monkeypatch):
    options = dict(custom_hooks=[dict(type='ProgressBarHook')], resume=True)
    for end, begin in (4, 0), (6, 4):
        runner = trainer('edm', max_iters=end, **options)
        monkeypatch.setattr(progress_bar_hook, '_bar', lambda **set: tqdm(mininterval=0, **set))
        runner.train()
        lines = capsys.readouterr().err.replace('\r', '\n').split('\n')
        bar = [line for line in lines if line.startswith('training: ')]
        assert f' {begin}/{end} ' in bar[0]
        assert f' {end}/{end} ' in bar[-1]
        # Also before the log has one.
        assert all('loss=' in line for line in bar[1:])
        loss = runner.message_hub.get_scalar('train/loss').current()
        assert f'loss={loss:.3g}' in bar[-1]


def test_a_bar_counts_the_images_of_a_validation(trainer, validation, capsys):
    evaluator = dict(
        type='GenerativeMetrics',
        names=('fid',),
        extractor='PixelFeatures',
        reference=dict(dataset=dict(type='DigitsDataset')),
    )
    bar = [dict(type='ProgressBarHook')]
    options = validation(evaluator, 7) | dict(train_cfg__val_interval=2)
    trainer('edm', max_iters=2, custom_hooks=bar, **options).train()
    lines = capsys.readouterr().err.replace('\r', '\n').split('\n')
    bar = [line for line in lines if line.startswith('sampling: ')]
    assert ' 0/7 ' in bar[0]
    assert ' 7/7 ' in bar[-1]
