"""``wsi-pipeline doctor``."""

import typer

from wsi_pipeline.cli import options


def doctor(json: options.JSON = False) -> None:
    """Say what is installed and works here: formats, store, GPU, scheduler, cores, memory, disk."""
    from dataclasses import asdict

    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.doctor import examine

    checks = examine()
    if json:
        console.print_json([asdict(check) for check in checks])
    else:
        console.print_table(
            ("", "what", "finding"), [(check.state, check.name, check.finding) for check in checks]
        )
    raise typer.Exit(1 if any(check.state == "broken" for check in checks) else 0)
