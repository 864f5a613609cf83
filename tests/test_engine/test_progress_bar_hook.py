"""The bar on the terminal."""


def test_bar_counts_from_where_the_run_stands_and_shows_the_loss(trainer, capsys):
    options = dict(custom_hooks=[dict(type='ProgressBarHook')], resume=True)
    for end, begin in (4, 0), (6, 4):
        runner = trainer('edm', max_iters=end, **options)
        runner.train()
        lines = capsys.readouterr().err.replace('\r', '\n').split('\n')
        bar = [line for line in lines if line.startswith('training: ')]
        assert f' {begin}/{end} ' in bar[0]
        assert f' {end}/{end} ' in bar[-1]
        loss = runner.message_hub.get_scalar('train/loss').current()
        assert f'loss={loss:.3g}' in bar[-1]
