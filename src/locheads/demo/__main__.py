"""`python -m locheads.demo [--model NAME] [--heads heads.json]`."""

import argparse
import sys

from locheads.errors import LocHeadsError, print_error


def main(arguments: list[str]) -> int:
    """Serves until Ctrl-C. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m locheads.demo", description="Ground an expression in your own image.")
    parser.add_argument("--model", default="pocket", help="of conf/model, a hub id or a folder (default: pocket)")
    parser.add_argument("--heads", help="heads.json of a run with the model, or names: L14H24,L14H13,L14H26")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 opens it to the network (default: this machine)")
    parser.add_argument("--port", type=int, default=7860)
    options = parser.parse_args(arguments)
    try:
        serve(options)
    except LocHeadsError as error:
        return print_error(error)
    return 0


def serve(options: argparse.Namespace) -> None:
    """Loads the model and opens the page. Raises LocHeadsError for everything that a user can correct."""
    # Imported late, so that --help answers at once.
    from locheads.api import Grounder
    from locheads.demo.app import DemoGrounder, build, example, import_gradio
    from locheads.errors import ConfigError, boundary
    from locheads.models.identity import POCKET_FOLDERS

    import_gradio()  # before the weights: what is missing is said at once
    answers = DemoGrounder(Grounder(options.model, options.heads, device=options.device))
    page = build(answers, f"LocHeads: {options.model}", example() if options.model in POCKET_FOLDERS else None)
    where = f"The demo cannot be served at {options.host}:{options.port}"
    with boundary(where, ConfigError, "choose another --port or --host."):
        page.launch(server_name=options.host, server_port=options.port, share=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
