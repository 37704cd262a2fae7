"""Makes a model folder from nothing: `python -m data.model.make --folder FOLDER`."""

import json

from data.model.make import card, train


def main() -> None:
    arguments = train.parse_arguments()
    train.run(arguments.folder, arguments.course, arguments.threads)
    log = arguments.folder / "training.jsonl"
    card.write(arguments.folder, [json.loads(line) for line in log.read_text().splitlines()])


if __name__ == "__main__":
    main()
