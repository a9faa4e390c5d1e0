"""What a run folder says about a training, for its report."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunFacts:
    """Files of a run folder, as far as they are there.

    Attributes:
        metrics_csv: One row per validation.
        configuration: Text of config.yaml.
        record: Content of run.json.
    """

    metrics_csv: Path | None = None
    configuration: str | None = None
    record: dict[str, Any] = field(default_factory=dict)


def read_run(metrics_csv: str | Path | None) -> RunFacts:
    """Read what lies beside a run's metrics.csv.

    Args:
        metrics_csv: The file, which need not exist; None for a model of unknown origin.
    """
    if metrics_csv is None:
        return RunFacts()
    path = Path(metrics_csv)
    configuration, record = path.parent / "config.yaml", path.parent / "run.json"
    return RunFacts(
        path if path.is_file() else None,
        configuration.read_text(encoding="utf-8") if configuration.is_file() else None,
        json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {},
    )
