"""``python -m wsi_pipeline`` is the command ``wsi-pipeline``."""

import signal

if __name__ == "__main__":
    # Until ``main`` takes over there is nothing to keep: Ctrl-C ends it without a traceback of imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from wsi_pipeline.cli.app import main

if __name__ == "__main__":
    main()
