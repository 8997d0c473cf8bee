"""What gunicorn serves."""

import os
import time

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# A big app takes seconds to import; this small one can be made as slow, to see what that costs its visitors.
time.sleep(float(os.environ.get("BOOT_SECONDS") or 0))

application = get_wsgi_application()
