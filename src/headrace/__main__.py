# SPDX-License-Identifier: Apache-2.0
"""``python -m headrace``: the same as the ``headrace`` program."""

from headrace.cli import main

if __name__ == "__main__":
    main()
