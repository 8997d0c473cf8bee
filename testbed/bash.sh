# Goes to a host with the library where a test wants to run a text of its own: testbed/bash.py.
set -euo pipefail

run_text() {
  local text
  local "$@"
  eval "$text"
}
