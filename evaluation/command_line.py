"""How a command ends that cannot go on, or is told to stop: with one sentence."""

import sys
from collections.abc import Callable

from menura.errors import MenuraError


def run(main: Callable[[], object]) -> None:
    """Run a command's `main`; what is missing or unknown, and Ctrl-C, end it with a sentence."""
    try:
        main()
    except OSError as error:
        named = f"{error.strerror}: {error.filename}" if error.filename else error
        sys.exit(f"{named}")
    except (ImportError, MenuraError) as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
