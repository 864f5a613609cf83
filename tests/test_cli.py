"""What the command lines share."""

import argparse
import os

import pytest
import torch
import torch.distributed as dist

from mmagic_cm.cli import (
    NameAndSettings,
    Parser,
    add_config_options,
    join_processes,
    parse_count,
    parse_ema,
    parse_integers,
    parse_levels,
    parse_share,
)
from mmagic_cm.errors import InputError


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('auto', 'auto'),
        ('target', 'target'),
        ('none', None),
        ('0.999', 0.999),
        ('sigma_rel=0.10', 'sigma_rel=0.1'),
    ],
)
def test_ema(text, expected):
    assert parse_ema(text) == expected


@pytest.mark.parametrize(
    ('text', 'expected'), [('0,22,39', (0, 22, 39)), ('0', (0,)), ('106, 0', (106, 0))]
)
def test_integers(text, expected):
    assert parse_integers(text) == expected


@pytest.mark.parametrize(
    ('parse', 'text'),
    [
        (parse_ema, 'longest'),
        (parse_integers, '0,,1'),
        (parse_integers, '1.5'),
        (parse_levels, '5;1'),
        (parse_count, '0'),
        (parse_share, '2'),
    ],
)
def test_texts_that_are_refused(parse, text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        parse(text)


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument('--sampler', nargs='+', action=NameAndSettings)
    return parser


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ('heun', dict(type='heun')),
        ('heun num_steps=18', dict(type='heun', num_steps=18)),
        ('heun num_steps=18 s_churn=2.5', dict(type='heun', num_steps=18, s_churn=2.5)),
        ('multistep sigmas=80,1.3', dict(type='multistep', sigmas=[80, 1.3])),
        ('multistep ts=(0,22,39)', dict(type='multistep', ts=(0, 22, 39))),
        ('euler clip_denoised=False', dict(type='euler', clip_denoised=False)),
    ],
)
def test_a_name_with_settings(words, expected, parser):
    assert parser.parse_args(['--sampler', *words.split()]).sampler == expected


@pytest.mark.parametrize(
    ('words', 'wrong'),
    [
        ('--sampler num_steps=18', 'num_steps=18'),
        ('--sampler a b=1 c', 'c'),
        ('--cfg-options a.b=1 nothing', 'nothing'),
    ],
)
def test_settings_without_a_name_or_a_value(words, wrong, parser, capsys):
    add_config_options(parser, 'a.b=1')
    with pytest.raises(SystemExit):
        parser.parse_args(words.split())
    assert f'KEY=VALUE, not {wrong}\n' in capsys.readouterr().err


def test_commands_do_not_see_that_a_traceback_is_wanted():
    assert vars(Parser().parse_args(['--debug'])) == {}


# --- processes ---


def test_what_torchrun_has_not_started(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(InputError, match='torchrun'):
        join_processes('pytorch')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_that_need_gpus(launcher):
    with pytest.raises(InputError, match=launcher):
        join_processes(launcher)


def test_one_process_of_torchrun(monkeypatch, tmp_path):
    environment = dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1')
    for name, value in (environment | dict(MASTER_PORT='0')).items():
        monkeypatch.setitem(os.environ, name, value)
    try:
        join_processes('pytorch')
        assert dist.get_backend() == 'gloo'
        join_processes('pytorch')  # a second time does no harm
    finally:
        dist.destroy_process_group()
