"""``python -m captum_vae`` is ``captum-vae``."""

import sys

from captum_vae.cli import main

sys.exit(main())
