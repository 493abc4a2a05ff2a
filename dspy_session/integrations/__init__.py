"""What connects sessions with other libraries, one module for each; none is imported unless you import it.

`mlflow`: traces that know their conversation, conversations as artifacts, examples as datasets (extra `mlflow`).
OpenTelemetry's attributes and metrics are in `dspy_session.telemetry`, because conversations report to it.
"""
