"""A k0s worker on a machine: user data, files and commands, in the formats that machines understand.

Pure. `worker` says what is wanted, `render` makes the user data, `recipes` lets the executor do that with secrets that
no plan may hold.

One rule stands above all others here: no text of a user is ever *interpreted* where it is data. A string passes through
up to five languages on its way (YAML or JSON, cloud-init's templates, the shell, systemd, PowerShell); for each of them
there is one function in `quoting` that makes any string arrive byte for byte, or a problem that names the field. Only
the pre and post commands are code, of their own shell, because that is what they are for.
"""
