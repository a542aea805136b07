"""The composition root: command line, pipelines, supervisor."""
