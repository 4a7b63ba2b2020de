"""Every choice that can be made on the command line: one folder a choice, one YAML an option."""
