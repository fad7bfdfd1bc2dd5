"""Structured logs: one JSON object a line, on standard error."""

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; ``extra={"fields": {…}}`` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json() -> None:
    """Let all loggers of the process write JSON lines, uvicorn's included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("trlm", "trlm_retrieval", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
