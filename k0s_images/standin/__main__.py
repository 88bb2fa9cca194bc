"""Entry point of `python3 -m k0s_images.standin`."""

import sys

from k0s_images.standin.entry import main

sys.exit(main(sys.argv[1:]))
