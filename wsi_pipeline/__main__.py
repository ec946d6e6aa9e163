"""``python -m wsi_pipeline`` is the command ``wsi-pipeline``."""

from wsi_pipeline.cli.app import main

if __name__ == "__main__":
    main()
