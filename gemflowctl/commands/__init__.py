"""The commands of `gemflowctl`, one a module, each as `command`."""
