# On the bench's host, as root: fill up with copies of the live release until there are so many. releases.sh BASE COUNT
set -euo pipefail

base=$1 count=$2
live=$(readlink -e "$base/current")
have=$(find "$base/releases" -mindepth 1 -maxdepth 1 -type d | wc -l)
model=$base/releases/.bench-model
mkdir "$model"
tar -C "$live" --exclude=./.venv --exclude=./.git -c . | tar -C "$model" -x
chown --reference "$live" "$model"
for ((number = 0; have < count; number++)); do
  copy=$(printf '%s/releases/20200101T%02d%02d%02dZ-%07x' \
    "$base" $((number / 3600)) $((number / 60 % 60)) $((number % 60)) "$number")
  if [ ! -e "$copy" ]; then
    cp -a "$model" "$copy"
    have=$((have + 1))
  fi
done
rm -r "$model"
