"""One adapter per framework, shipped as ``lossbackend.backends``."""
