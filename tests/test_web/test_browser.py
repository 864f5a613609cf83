"""The page as a user sees it, in a headless Chromium that reaches nothing but the page.

With ``MMAGIC_CM_SCREENSHOTS=WORK_DIRS`` it shows the runs in that folder, and refreshes
``docs/web_*.png``.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmagic_cm.apis import generate
from mmagic_cm.web.painting import SHOWN_SIZE

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
DRIVER = shutil.which('chromedriver')
DOCS = Path(__file__).parents[2] / 'docs'
SCREENSHOTS = os.environ.get('MMAGIC_CM_SCREENSHOTS')
WAIT = 120.0  # a software renderer on a busy machine takes its time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason='there is no chromium with its chromedriver here'
    ),
]


@pytest.fixture(scope='module')
def work_dirs(request):
    """The tests' own run, or those of which screenshots are wanted."""
    if SCREENSHOTS:
        return Path(SCREENSHOTS).resolve()
    return request.getfixturevalue('tiny_work_dirs')


def until(found: Callable[[], Any], what: str) -> Any:
    """Wait for something that is true."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            value = found()
        except WebDriverException:  # the page has replaced the element meanwhile
            value = None
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f'{what} did not come within {WAIT:.0f} s')


@pytest.fixture(scope='module')
def browser(page, tmp_path_factory):
    """Chromium on the page, with what tests do in it."""
    webdriver = pytest.importorskip('selenium.webdriver')
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    downloads = tmp_path_factory.mktemp('downloads')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        '--headless=new',
        '--no-sandbox',
        '--disable-dev-shm-usage',
        '--enable-unsafe-swiftshader',
        '--window-size=1500,1350',
        '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
    ):
        options.add_argument(argument)
    options.add_experimental_option('prefs', {'download.default_directory': str(downloads)})
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def all_of(selector: str) -> list:
        return driver.find_elements(By.CSS_SELECTOR, selector)

    def click(selector: str, text: str = '') -> None:
        def found():
            those = [e for e in all_of(selector) if text in e.text and e.is_displayed()]
            return those and those[0].is_enabled() and not those[0].click()

        until(found, f'{selector} {text}')

    def write(selector: str, text: str) -> None:
        box = until(lambda: [e for e in all_of(selector) if e.is_displayed()], selector)[0]
        box.click()
        box.send_keys(Keys.CONTROL, 'a')
        box.send_keys(text, Keys.ENTER)
        box.send_keys(Keys.TAB)

    def images(selector: str) -> list[str]:
        # Those that one has to scroll to count, too.
        return [e.get_attribute('src') for e in all_of(f'{selector} img')]

    def download(selector: str, text: str) -> Path:
        before = {*downloads.iterdir()}
        click(selector, text)
        fresh = lambda: [  # noqa: E731
            p for p in downloads.iterdir() if p not in before and p.suffix in ('.npz', '.png')
        ]
        return until(fresh, f'the download {text}')[0]

    def screenshot(name: str) -> None:
        if SCREENSHOTS:
            driver.save_screenshot(str(DOCS / f'web_{name}.png'))

    driver.get(page.url)
    until(lambda: all_of('#generate'), 'the page')
    yield SimpleNamespace(
        driver=driver,
        all=all_of,
        click=click,
        write=write,
        images=images,
        download=download,
        screenshot=screenshot,
    )
    driver.quit()


def test_generate_compare_and_download(browser, page):
    browser.click('#classes_generate input')
    until(lambda: len(browser.all('#classes_generate [role=option]')) == 10, 'ten classes')
    browser.write('#classes_generate input', '3')
    until(lambda: browser.all('#classes_generate .token'), 'class 3')
    browser.click('#compare input')
    shown = lambda: any(e.is_displayed() for e in browser.all('#sampler_b'))  # noqa: E731
    until(shown, 'sampler B')  # until then buttons move away from clicks
    browser.click('#generate')
    until(lambda: len(browser.images('#results_b')) == 16, 'images of B')
    until(lambda: len(browser.images('#results_a')) == 16, 'images of A')
    costs = browser.all('#costs')[0].text
    assert 'onestep 1 ' in costs
    assert 'multistep at 80, 2.' in costs
    browser.screenshot('generate')
    with np.load(browser.download('#results_a button', 'npz')) as arrays:
        model = page.shelf.model(next(iter(page.shelf.checkpoints())))
        expected, labels = generate(model, 16, labels=3, sampler='OnestepSampler')
        assert np.array_equal(arrays['arr_0'], expected)
        assert np.array_equal(arrays['arr_1'], labels)
    with Image.open(browser.download('#results_b button', 'PNG')) as grid:
        assert grid.width == grid.height


def test_stop(browser):
    browser.write('#sampler_a input', 'heun')
    browser.write('#num_images input[type=number]', '256')
    browser.click('#generate')
    until(lambda: 'Sampling' in browser.all('#tab_generate')[0].text, 'progress')
    browser.click('#stop_generate')
    until(lambda: 'stopped after' in browser.all('#costs')[0].text, 'the end')


def test_a_mistake_is_answered_with_a_sentence(browser, page):
    browser.write('#checkpoint input', '/etc/passwd')
    browser.click('#generate')
    until(
        lambda: any('none of the checkpoints' in e.text for e in browser.all('.toast-body')),
        'the sentence',
    )
    browser.write('#checkpoint input', next(iter(page.shelf.checkpoints())))


def test_paint_and_edit(browser):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.click('button[role=tab]', 'Edit')
    until(lambda: len(browser.all('#pick button img')) == 10, 'pictures to pick')
    browser.all('#pick button')[3].click()
    canvas = until(
        lambda: [c for c in browser.all('#editor canvas') if c.size['width'] == SHOWN_SIZE],
        'the picture',
    )[0]
    browser.click('#editor button[aria-label="Draw button"]')
    palette = '#editor input[type=range]'
    until(lambda: browser.all(palette), 'the palette')
    ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
    until(lambda: not browser.all(palette), 'the end of the palette')
    # A line through row 6 of 8, from column 1 to column 6.
    middle = round(SHOWN_SIZE * (6.5 / 8 - 0.5))
    end = round(SHOWN_SIZE * (1.5 / 8 - 0.5))
    drag = ActionChains(browser.driver).move_to_element_with_offset(canvas, end, middle)
    drag.click_and_hold().move_by_offset(50, 0).move_by_offset(-2 * end - 50, 0).release().perform()
    undo = '#editor button[aria-label="Undo"]'
    until(lambda: all(button.is_enabled() for button in browser.all(undo)), 'the stroke')
    browser.click('#edit')
    until(lambda: len(browser.images('#results_edit')) == 6, 'candidates')
    close_messages(browser)
    browser.screenshot('edit')
    with np.load(browser.download('#results_edit button', 'npz')) as arrays:
        candidates = arrays['arr_0']
    assert candidates.shape == (4, 8, 8, 1)
    from mmagic_cm.web.edit_tab import digits_to_pick

    digit = np.asarray(digits_to_pick()[3])
    differs = (candidates[..., 0] != digit).any(axis=0)
    assert differs[6, 1:7].any()
    differs[5:8] = False  # the brush is about as wide as a row
    assert not differs.any()
    assert browser.download('#results_edit button', 'PNG').stat().st_size > 0


def close_messages(browser) -> None:
    until(lambda: not [b.click() for b in browser.all('.toast-close')], 'the end of the messages')


def test_runs(browser):
    browser.click('button[role=tab]', 'Training runs')
    browser.click('#show_run')
    until(lambda: browser.images('#curves'), 'curves')
    until(lambda: browser.images('#grids'), 'sample grids')
    close_messages(browser)
    browser.screenshot('run')


def test_nothing_is_fetched_from_elsewhere(browser, page):
    events = [
        json.loads(entry['message'])['message'] for entry in browser.driver.get_log('performance')
    ]
    asked = {
        event['params']['requestId']: event['params']['request']['url']
        for event in events
        if event['method'] == 'Network.requestWillBeSent'
    }
    blocked = {
        event['params']['requestId']
        for event in events
        if event['method'] == 'Network.loadingFailed'
        and event['params'].get('blockedReason') == 'csp'
    }
    assert any(url.startswith(page.url) for url in asked.values())
    own = (page.url, 'data:', 'blob:')
    assert not [u for i, u in asked.items() if not u.startswith(own) and i not in blocked]
