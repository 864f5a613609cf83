"""What a run says before it begins."""


def logged(runner) -> list[str]:
    """What its log will say."""
    lines = []
    runner.logger.info = lines.append
    return lines


def test_says_what_there_is_to_know(trainer):
    runner = trainer('ict', max_iters=8)
    lines = logged(runner)
    runner.train()
    data, network, run = lines[:3]
    assert data == 'Data: 1,400 images in 10 classes; of 100 looked at, all are 8 x 8 pixels.'
    count = sum(p.numel() for p in runner.model.denoiser.parameters())
    assert network == f'Network: {count:,} parameters.'
    assert run == 'Run: 8 iterations of 8 images, 64 images in all, 0.0 times the data set.'


def test_says_where_a_resumed_run_goes_on(trainer):
    first = trainer('ict', work_dir='first', max_iters=2)
    first.train()
    checkpoint = f'{first.work_dir}/iter_2.pth'
    options = dict(resume=True, load_from=checkpoint, optim_wrapper__accumulative_counts=2)
    resumed = trainer('ict', max_iters=4, **options)
    lines = logged(resumed)
    resumed.train()
    [run] = [line for line in lines if line.startswith('Run: ')]
    assert run.endswith(
        'The optimizer takes a step every 2 iterations. It goes on after iteration 2.'
    )
