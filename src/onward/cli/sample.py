"""`onward sample`: generate text with a model."""

from typing import Any

import click

from ..recipes import text
from .common import Real, json_option, print_json
from .sources import ModelFile, model_argument


@click.command(epilog='Example:  onward sample shakespeare --prompt "ROMEO." --temperature 0.7')
@model_argument
@click.option(
    "--prompt",
    help="The text to continue. Default: a newline, or the first character of a model that knows no newline.",
)
@click.option(
    "--temperature",
    default=0.8,
    type=Real(0),
    help="0 always chooses the likeliest character; 1 samples from the model's probabilities.",
)
@click.option("--length", default=500, type=click.IntRange(0), help="Characters to generate.")
@click.option("--seed", "rng", type=click.IntRange(0), help="Seed; the same seed gives the same text.")
@json_option
def sample(model: ModelFile, prompt: str | None, as_json: bool, **options: Any) -> None:
    """Generate text with MODEL, character by character.

    MODEL is a bundled text model (see `onward models`) or a file written by `onward train text`.
    """
    network, vocabulary = model.text_model()
    if prompt is None:
        prompt = "\n" if "\n" in vocabulary.characters else vocabulary.characters[0]
    characters = text.sample(network, vocabulary, prompt, **options)
    if as_json:
        print_json({"model": model.name, "prompt": prompt, "text": "".join(characters)})
        return
    click.echo(prompt, nl=False)
    for character in characters:
        click.echo(character, nl=False)
    click.echo()
