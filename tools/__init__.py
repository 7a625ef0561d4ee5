"""What a person runs around the pipeline."""

import os

# As the user has it, for the commands that a tool starts: importing `stages` pins the numerical environment of
# this process, and a `numerics: fast` experiment must not inherit that.
ENVIRONMENT = dict(os.environ)
