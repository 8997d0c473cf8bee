# One step on the host: bash --norc -euo pipefail main.sh FUNCTION name=value...
#
# context.sh holds the app's constants, made by ssh/library.py from the layout and the table of root commands.
# shellcheck source=/dev/null # both are there on the host
. "$DEPLOY_LIBRARY/context.sh"
for noun in "$DEPLOY_LIBRARY"/lib/*.sh; do
  # shellcheck source=/dev/null
  . "$noun"
done
"$@"
