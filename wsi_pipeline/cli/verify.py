"""``wsi-pipeline verify``."""

import typer

from wsi_pipeline.cli import options


def verify(
    run: options.RUN,
    workers: options.WORKERS = None,
    cluster: options.CLUSTER = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Re-read every tile of a run and compare it with the manifest and its checksums."""
    from dataclasses import asdict

    from wsi_pipeline import run as joined
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import RunConfig, make_config, read_yaml

    flags = options.given(workers=workers, cluster=cluster)
    how = make_config(RunConfig, {**(read_yaml(config) if config else {}), **flags})
    console.set_up_logging(quiet=quiet, verbose=verbose)
    with console.progress(slides="slides", quiet=quiet) as observer:
        outcome = joined.verify(run, cluster=options.workers_of(how), observer=observer)
    if json:
        console.print_json(asdict(outcome))
    else:
        console.say(
            f"{outcome.tiles} tiles of {len(outcome.slides)} slides read again: "
            f"{len(outcome.findings)} findings"
        )
    for finding in outcome.findings:
        console.complain(f"found: {finding}")
    raise typer.Exit(1 if outcome.findings else 0)
