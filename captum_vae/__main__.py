"""``python -m captum_vae`` is ``captum-vae``."""

import sys

from captum_vae.commands.main import main

sys.exit(main())
