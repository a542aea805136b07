"""Writes `pipeline.schema.json`, the JSON Schema of pipeline.yaml, from the models: python -m tailrace.schema_file."""

import json
from pathlib import Path

from tailrace_schemas.settings import json_schema

SCHEMA_FILE = Path(__file__).with_name("pipeline.schema.json")


def write() -> None:
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
