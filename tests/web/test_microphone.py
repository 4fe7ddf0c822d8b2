"""The vowels model hears the reader: recordings get the features of the data, and refusals are explained."""

import wave

import numpy as np
import pytest

import onward
from onward import bundled
from onward.tables import data

RATE, FRAME, SHIFT, ORDER, EMPHASIS = 10_000, 256, 64, 12, 0.97
SPOKEN = 54  # the recording that the microphone hears


def predictor(cepstrum):
    """The coefficients a of the model x[n] = sum of a[k] x[n - k] with this cepstrum."""
    a = np.zeros(ORDER)
    for n in range(1, ORDER + 1):
        a[n - 1] = cepstrum[n - 1] - sum(k / n * cepstrum[k - 1] * a[n - k - 1] for k in range(1, n))
    return a


def cepstra(samples):
    """The LPC cepstra by the normal equations and the Fourier transform of the log spectrum."""
    emphasized = np.convolve(samples, [1, -EMPHASIS])[: len(samples)]
    rows = []
    for start in range(0, len(samples) - FRAME + 1, SHIFT):
        frame = emphasized[start : start + FRAME] * np.hamming(FRAME)
        r = np.correlate(frame, frame, "full")[FRAME - 1 : FRAME + ORDER]
        lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
        a = np.linalg.solve(r[lags], r[1:])
        spectrum = np.abs(np.fft.fft(np.r_[1, -a], 16384))
        rows.append(2 * np.fft.ifft(-np.log(spectrum)).real[1 : ORDER + 1])
    return np.array(rows)


def spoken(features, period=80):
    """A voice with these cepstra: a pulse train through the filter of each frame, without pre-emphasis."""
    filters = [predictor(row) for row in features.astype(float)]
    count = FRAME + SHIFT * (len(features) - 1)
    emphasized, samples = np.zeros(count + ORDER), np.zeros(count + 1)
    for n in range(count):
        at = min(max((n - (FRAME - SHIFT) // 2) // SHIFT, 0), len(filters) - 1)
        past = emphasized[n : n + ORDER][::-1]
        emphasized[n + ORDER] = (n % period == period // 2) + filters[at] @ past
        samples[n + 1] = emphasized[n + ORDER] + EMPHASIS * samples[n]
    return samples[1:]


@pytest.fixture(scope="module")
def sequences():
    return data.read(bundled.datasets()["japanese_vowels_test"])


@pytest.fixture(scope="module")
def speech(launch, sequences, tmp_path_factory):
    """A browser whose microphone hears one recording again and again, with silence between."""
    path = tmp_path_factory.mktemp("speech") / "voice.wav"
    samples = spoken(sequences.items[SPOKEN])
    samples = np.r_[samples / np.abs(samples).max() * 0.5, np.zeros(3000)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    chromium = launch(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={path}",
    )
    yield chromium
    chromium.close()


def evaluated(page, body, samples):
    """The numbers that a function body computes from `samples` with the module speech.js."""
    script = f'async (samples) => {{ const speech = await import("./speech.js"); {body} }}'
    return np.array(page.evaluate(script, np.asarray(samples, float).tolist()))


def test_the_coefficients_of_the_data_are_cepstra_of_stable_models(sequences):
    """With the sign of the other convention, most models are unstable, and the page would be wrong."""
    frames = np.concatenate(sequences.items)[::7].astype(float)

    def stable(sign):
        return [np.abs(np.roots(np.r_[1, -predictor(sign * frame)])).max() < 1 for frame in frames]

    assert np.mean(stable(1)) == 1 and np.mean(stable(-1)) < 0.5


def test_the_cepstra_are_those_of_the_normal_equations(visit, sequences):
    rng = np.random.default_rng(0)
    voice = spoken(sequences.items[3]) + rng.normal(
        scale=1e-3, size=FRAME + SHIFT * (len(sequences.items[3]) - 1)
    )
    for samples in (voice, rng.normal(size=1000)):
        found = evaluated(visit(), "return [...speech.cepstra(Float64Array.from(samples))];", samples)
        np.testing.assert_allclose(found.reshape(-1, ORDER), cepstra(samples), atol=1e-5)


def test_the_model_names_the_speakers_whose_cepstra_are_spoken(visit, sequences):
    net, page, right = onward.load(bundled.models()["vowels"]), visit(), 0
    for n in range(0, 370, 37):
        found = evaluated(
            page, "return [...speech.cepstra(Float64Array.from(samples))];", spoken(sequences.items[n])
        )
        features = found.reshape(-1, ORDER).astype(np.float32)
        np.testing.assert_allclose(features, sequences.items[n], atol=0.25)
        right += net(features).argmax() == sequences.labels[n]
    assert right == 10


@pytest.mark.parametrize("rate", [44_100, 48_000, 8_000])
def test_resampling_keeps_speech_and_removes_what_10_khz_cannot_hold(visit, rate):
    page, seconds = visit(), np.arange(rate // 5) / rate
    low, high = np.sin(2 * np.pi * 700 * seconds + 1), np.sin(2 * np.pi * 7300 * seconds)
    body = f"return [...speech.resampled(Float32Array.from(samples), {rate})];"
    kept = evaluated(page, body, low)
    at = np.arange(len(kept)) / RATE
    inner = slice(100, -100)
    np.testing.assert_allclose(kept[inner], np.sin(2 * np.pi * 700 * at + 1)[inner], atol=2e-3)
    if rate > 2 * 7300:
        assert np.abs(evaluated(page, body, high)[inner]).max() < 2e-3


def test_silence_is_no_utterance_and_noise_around_a_word_is_cut_off(visit):
    page = visit()
    find = """const part = speech.utterance(Float64Array.from(samples));
              return part ? [part.byteOffset / 8, part.length] : [];"""
    assert not len(evaluated(page, find, np.full(5000, 1e-3)))
    assert not len(evaluated(page, find, np.zeros(10)))
    word = np.r_[np.full(3200, 0.01), np.sin(np.arange(1600)), np.full(3200, 0.01)]
    start, length = evaluated(page, find, word)
    click = np.r_[np.sin(np.arange(20)) * 3, np.zeros(3052)]  # loud and short: not the word
    assert evaluated(page, find, np.r_[click, word])[1] == length
    assert not len(evaluated(page, find, click))
    assert abs(start - 3200) <= 64 and abs(start + length - 4800) <= 64


def test_a_recording_is_heard_and_named(visits, speech, sequences):
    page, expected = visits(speech)("#model=vowels"), len(sequences.items[SPOKEN])
    for _ in range(5):  # on a busy machine, Chromium may lose parts of the sound
        page.click("#record")
        page.wait_for_function("document.querySelector('#record-note').textContent.includes('Heard')")
        steps = int(page.get_attribute("#scrub", "max"))
        if abs(steps - expected) <= 3:
            break
    assert abs(steps - expected) <= 3
    assert page.text_content("#prediction").startswith(f"speaker {sequences.labels[SPOKEN]}")


REFUSALS = {
    "NotAllowedError": "Allow it",
    "NotFoundError": "no microphone",
    "NotReadableError": "another program",
}


@pytest.mark.parametrize("error", REFUSALS)
def test_a_refusal_tells_the_reader_what_to_do_and_the_page_goes_on(visit, error):
    page = visit("#model=vowels")
    page.evaluate(
        """(name) => {
          navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", name); };
        }""",
        error,
    )
    page.click("#record")
    said = f"document.querySelector('#record-note').textContent.includes('{REFUSALS[error]}')"
    page.wait_for_function(said)
    assert page.is_enabled("#record")
    page.select_option("#recording", "3")
    assert page.text_content("#prediction").startswith("speaker 1")


def test_a_page_that_the_browser_gives_no_microphone_says_how_to_open_it(visit):
    page = visit("#model=vowels")
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    page.click("#record")
    assert "https" in page.text_content("#record-note")
