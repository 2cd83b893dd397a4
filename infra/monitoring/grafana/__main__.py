"""``python -m infra.monitoring.grafana`` (``make dashboards``): write the generated files."""

import sys

from infra.monitoring.grafana.files import PROVISIONING, generate

for name, text in generate().items():
    path = PROVISIONING / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{path}\n")
