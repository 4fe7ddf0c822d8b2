"""`onward sample` and `onward score`: what a trained model writes, and how good it is on a file."""

import json
from pathlib import Path

import click
from rich.console import Console

from .. import bundled
from ..core import storage
from ..recipes import sequences, text
from ..tables import data
from .common import Report, json_option, model_of, named_file
from .input_options import read_sequences, selection_options


@click.command(epilog='Example:  onward sample shakespeare --prompt "ROMEO." --temperature 0.7')
@click.argument("model")
@click.option("--prompt", default="\n", help="What the text begins with; the end of a line, if not given.")
@click.option("--temperature", default=0.8, show_default=True, help="0: the likeliest; 1: as the model says.")
@click.option("--length", default=500, show_default=True, type=click.IntRange(0), help="Characters to write.")
@click.option("--seed", type=click.IntRange(0), help="The same text for the same seed.")
@json_option
def sample(model: str, prompt: str, temperature: float, length: int, seed: int | None, as_json: bool) -> None:
    """Writes with MODEL, a model of text: character by character, as they come.

    MODEL is a bundled model (see `onward models`) or a file of `onward train text`.
    """
    net, vocabulary = text.load(named_file(model, bundled.models(), "model", "MODEL"))
    characters = text.sample(net, vocabulary, prompt, length, temperature, seed)
    if as_json:
        print(json.dumps({"model": model, "prompt": prompt, "text": "".join(characters)}))
        return
    click.echo(prompt, nl=False)
    for character in characters:
        click.echo(character, nl=False)
    click.echo()


@click.command(epilog="Example:  onward score shakespeare play.txt")
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@selection_options
@json_option
def score(model: str, file: Path, selection: data.Selection, as_json: bool) -> None:
    """Tells how good MODEL is on FILE, a text in UTF-8 or a table of sequences (.npz or .csv).

    Of a text: the bits per character and their perplexity. Of a table, which is as `onward train table` takes
    it: the loss and, where there are classes, the share of those that are right.
    """
    path = named_file(model, bundled.models(), "model", "MODEL")
    report: Report = {"model": model, "file": str(file)}
    if file.suffix.lower() in data.SUFFIXES:
        net = model_of(path, model)
        table = read_sequences(net, path, str(file), selection)
        report["read_as"] = table.describe()
        if not as_json:
            click.echo(table.describe())
        found = sequences.score_table(net, table)
        report |= {"loss": found.loss, "accuracy": found.accuracy}
        said = f"loss {found.loss:.4g}" + ("" if found.accuracy is None else f", {found.accuracy:.1%} right")
    else:
        whole = storage.read_text(file)
        bits = text.bits_per_character(*text.load(path), whole)
        report |= {"characters": len(whole), "bits_per_character": bits, "perplexity": 2**bits}
        said = f"{bits:.4f} bits per character, perplexity {2**bits:.3f}, over {len(whole):,} characters"
    if as_json:
        print(json.dumps(report, allow_nan=False))
    else:
        Console(highlight=False, markup=False).print(said)
