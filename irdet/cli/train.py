"""`irdet train`: trains a network on a labelled data set."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from irdet.cli.options import ExistOkOption, JsonOption, NameOption, QuietOption
from irdet.cli.watch_options import Stopped
from irdet.core.errors import UsageError


def train(
    data: Annotated[Path, typer.Option("--data", help="Labelled data set (images and masks).")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="Network to train.", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME", help="A recipe that comes with irdet.", show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Part of the data set.", show_default=False)] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option(
            "--backgrounds",
            metavar="DIR",
            help="Target-free frames to train on, of other scenes than DATA.",
            show_default=False,
        ),
    ] = None,
    ckpt: Annotated[
        Path | None,
        typer.Option(
            "--ckpt",
            metavar="NAME|FILE",
            help="Weights to start from; what does not fit starts fresh.",
            show_default=False,
        ),
    ] = None,
    mean: Annotated[
        Path | None,
        typer.Option(
            "--mean",
            metavar="NAME|FILE",
            help="Earlier weights, for recipes that end with the mean of theirs and these.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, show_default=False)] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Crops per step.", show_default=False)] = None,
    crop: Annotated[int | None, typer.Option("--crop", min=16, help="Side of a crop, px.", show_default=False)] = None,
    rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Peak rate of AdamW.", show_default=False)
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold", min=0, help="Part held out for validation, 1 to 5; 0 trains on all.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Fixes weights and crops.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN", help="Go on with a run: its folder or last.pt.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to compute.")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, show_default=False)] = None,
    name: NameOption = None,
    exist_ok: ExistOkOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Trains a network: best.pt, last.pt, log and a picture of predictions in runs/train/NAME.

    Ctrl-C leaves a checkpoint; --resume with the same data goes on as if nothing had happened.
    """
    from irdet.core.extras import require

    require("torch", "train", "training")
    require("tensorboard", "train", "training")

    from irdet.cli.console import print_json, print_table, progress, say
    from irdet.cli.rundir import claimed, run_folder
    from irdet.models import load_initial, load_model
    from irdet.training.dataset import held_out_alike, load_training_data
    from irdet.training.device import choose_device, keep_freed_memory
    from irdet.training.loop import check_start, record_protocols, stored_recipe
    from irdet.training.loop import train as run
    from irdet.training.recipe import Recipe, get_recipe

    changes = {
        "epochs": epochs,
        "batch": batch,
        "crop": crop,
        "learning_rate": rate,
        "fold": fold,
        "seed": seed,
        "model": model,
    }
    if resume is not None:
        if not (resume.is_dir() or (resume.is_file() and resume.name == "last.pt")):
            raise UsageError(f"--resume {resume}: no folder of a run, and no last.pt")
        folder = resume if resume.is_dir() else resume.parent
        for option, given, what in (
            ("--ckpt", ckpt, "weights"),
            ("--mean", mean, "mean"),
            ("--recipe", recipe, "recipe"),
            ("--name", name, "name"),
        ):
            if given is not None:
                raise UsageError(f"--resume takes its {what} from the run: leave {option} out")
        plan = stored_recipe(folder / "last.pt").replace(**changes)
    else:
        plan = (get_recipe(recipe) if recipe else Recipe()).replace(**changes)
    where = choose_device(device, threads)
    if where == "cpu":
        keep_freed_memory()
    initial = None
    if ckpt is not None:
        # A recipe or --model says which network; without them the checkpoint does.
        initial = load_initial(str(ckpt), plan.model if recipe or model else None, plan.seed)
        plan = plan.replace(model=initial.variant)
        if initial.fresh:
            say(f"fresh: {len(initial.fresh)} tensors that {ckpt} does not have in that shape")
    earlier = load_model(str(mean)) if mean is not None else None
    if resume is None:
        check_start(plan, initial.module if initial else None, earlier.module if earlier else None)

    with progress("reading", None, quiet) as advance:
        frames = load_training_data(data, backgrounds, plan, split, advance)
    for what, record in (
        (f"--ckpt {ckpt}", initial.info if initial else None),
        (f"--mean {mean}", earlier.info if earlier else None),
    ):
        if record is not None and plan.fold and not held_out_alike(record, plan.fold, frames):
            say(f"{what} may have been trained on what is held out here: figures of fold {plan.fold} will flatter")
    steps = -(-len(frames.train) // plan.batch) * plan.epochs
    with run_folder(None, "train", name or plan.model, exist_ok) if resume is None else claimed(folder) as folder:
        if not quiet:
            say(
                f"{plan.model}: {len(frames.train)} images to train on, {len(frames.validation)} to validate, "
                f"{len(frames.backgrounds)} target-free; on {where}; in {folder}"
            )
        with progress("training", steps, quiet) as advance:
            result = run(
                plan,
                frames,
                folder,
                device=where,
                initial=initial.module if initial else None,
                earlier=earlier.module if earlier else None,
                resume=resume is not None,
                advance=advance,
            )
    if result.signal is not None:
        same = [("--data", data), ("--backgrounds", backgrounds), ("--split", split), ("--threads", threads)]
        same += [("--device", device if device != "auto" else None), ("--resume", folder)]
        words = [str(part) for key, value in same if value is not None for part in (key, value)]
        onwards = shlex.join(["irdet", "train", *words])
        raise Stopped(result.signal, f"stopped in epoch {result.epoch}; to go on: {onwards}")

    info = record_protocols(result.best, frames, plan.square)
    if as_json:
        print_json({"folder": str(folder), "best": str(result.best), "last": str(result.last), "metrics": info.metrics})
        return
    columns = ("size", "iou", "niou", "pd", "fa", "false_per_frame")
    if rows := [(part, *(values[column] for column in columns)) for part, values in info.metrics.items()]:
        print_table("best.pt on the validation part", rows, ("part", *columns))
    else:
        say("nothing was held out, so there is nothing to say about how good it is")
    say(f"checkpoints, log and pictures: {folder}")
