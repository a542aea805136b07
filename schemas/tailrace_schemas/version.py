"""The one version number of the distribution."""

VERSION = "0.1.0"
