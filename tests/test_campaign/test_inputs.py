"""Bad input to every command: none ends in a traceback, hangs, takes memory or runs code."""

import re
import time
from collections import Counter

import pytest


@pytest.fixture(scope='module')
def inputs(load_script):
    return load_script('tests/test_campaign/inputs.py')


def argv_of(case, inputs, files, out) -> list[str]:
    given = inputs.USUAL | dict(tiny=' '.join(files.tiny)) | (case.given or {})
    text = re.sub(r'<(\w+)>', lambda match: given[match[1]], inputs.COMMANDS[case.command])

    def path(match) -> str:
        return str(out if match[1] == 'out' else files[match[1]])

    return [re.sub(r'\{([\w.-]+)\}', path, word) for word in f'{text} {case.more}'.split()]


def fault_of(case, ended, files) -> str | None:
    """What is wrong with how a case ended."""
    said = ended.out + ended.err
    if ended.end is not None:
        return ended.end
    if files.ran.exists():
        files.ran.unlink()
        return 'runs code'
    if 'Traceback (most recent call last)' in said:
        lines = said.splitlines()
        last = [line for line in lines if re.match(r'[\w.]+(Error|Exception|Interrupt)\b', line)]
        return f'traceback: {(last or lines)[-1][:160]}'
    if ended.status not in (0, 1, 2):
        return f'ends with {ended.status}'
    if case.named is None:
        return None
    if ended.status == 0:
        return 'is accepted'
    if ended.status == 1 and not any(line.startswith('error: ') for line in ended.err.splitlines()):
        return f'does not say what: {ended.err[-160:]!r}'
    if case.named.lower() not in ended.err.lower():
        return f'does not name {case.named!r}: {ended.err.splitlines()[-1][:200]!r}'
    return None


@pytest.mark.slow
@pytest.mark.parametrize('section', ['checkpoints', 'data', 'configs', 'numbers', 'machine'])
def test_bad_input_ends_well(commands, files, inputs, tmp_path, section, record_property):
    cases = inputs.SECTIONS[section]
    begin, faults, counts, peaks = time.monotonic(), [], Counter(), []
    environment = dict(PATH=f'{files.ran.with_name("bin")}:/usr/bin:/bin')
    for number, case in enumerate(cases):
        out = tmp_path / f'{number}'
        out.mkdir()
        argv = argv_of(case, inputs, files, out)
        ended = commands.run(argv, out, largest_file=case.largest_file, **environment)
        peaks.append(ended.peak)
        fault = fault_of(case, ended, files)
        counts[fault.split(':')[0] if fault else f'status {ended.status}'] += 1
        if fault:
            faults.append(f'{case}\n    {fault}')
    summary = (
        f'{section}: {len(cases)} inputs in {time.monotonic() - begin:.0f} s, at most '
        f'{max(peaks) / 2**20:.0f} MiB more; {dict(counts)}'
    )
    print(summary)
    record_property('campaign', summary)
    assert not faults, f'{summary}\n' + '\n'.join(faults)
